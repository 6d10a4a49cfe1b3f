"""Time state-spaces' own kernels: Mamba-2 models of random weights, one sequence, decode and prefill.

    python3 crates/bench/peer/build.py --sources DIR --into SITE        # once; see there
    PYTHONPATH=SITE python3 crates/bench/peer/bench.py [--models mamba2-130m,mamba2-1.3b] [-o FILE]

One JSON object a line, on standard output and in FILE: tokens/s is the median of at least five repetitions and two seconds after a
warm-up of the same shape, every sample kept. Two ways of each workload:

    decode   "graph":    one CUDA graph of a step and its argmax, fed with its own token: nothing but the kernels
             "generate": the package's own generate(cg=True), which replays a CUDA graph a token and samples outside of it;
                         the time of the prompt's pass, one token, is taken off
    prefill  "eager":    the package's forward pass as generate() calls it, and the argmax of the last position
             "graph":    the same pass as one CUDA graph

The same run measures the copy bandwidth, (bytes read + written) / time, which `bw_efficiency` of decode is held against: weights read
once, state read and written. The package keeps its state in the type of the weights.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from mamba_ssm.models.config_mamba import MambaConfig
from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
from mamba_ssm.utils.generation import InferenceParams

try:
    import causal_conv1d

    CONV = "causal-conv1d " + causal_conv1d.__version__
except ImportError:
    CONV = "torch"

# Width and depth of the published models; the rest they share.
MODELS = {
    "mamba2-130m": (768, 24),
    "mamba2-370m": (1024, 48),
    "mamba2-1.3b": (2048, 48),
    "mamba2-2.7b": (2560, 64),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mamba2-130m,mamba2-1.3b,mamba2-2.7b", help="comma-separated: " + ", ".join(MODELS))
    parser.add_argument("-p", "--n-prompt", type=int, default=4096, help="tokens of a prefill; 0: none")
    parser.add_argument("-n", "--n-gen", type=int, default=128, help="tokens of a decode; 0: none")
    parser.add_argument("-r", "--repetitions", type=int, default=5, help="at least so many")
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--budget", type=float, default=150, help="seconds after which nothing new is begun")
    parser.add_argument("-o", "--output", type=Path, help="a file for the lines")
    options = parser.parse_args()
    names = options.models.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")

    begun = time.monotonic()
    out = Output(options)
    copy = out.line({"bench": "probe", "copy_gbps": round(copy_bandwidth() / 1e9, 1)})["copy_gbps"]
    models = {}
    # A step needs few kernels; those of prefill are tuned at their first call, the better part of a minute, and for the length of that
    # call: so the long prompts come before generate(), whose prompt is one token.
    order = [decode] * bool(options.n_gen) + [prefill] * bool(options.n_prompt) + [generate] * bool(options.n_gen)
    workloads = [(name, workload) for workload in order for name in names]
    failed = False
    for name, workload in workloads:
        if time.monotonic() - begun > options.budget:
            out.line({**named(workload), "model": name, "skipped": f"the budget of {options.budget:.0f} s is spent"})
            continue
        try:
            if name not in models:
                models[name] = random_model(name, getattr(torch, options.dtype))
            with torch.inference_mode():
                for row in workload(models[name], options, copy):
                    out.line({**named(workload), "model": name, **row})
        except Exception as failure:  # a line says so, and the others are still measured
            failed = True
            out.line({**named(workload), "model": name, "failed": f"{type(failure).__name__}: {failure}"[:500]})
    return 1 if failed else 0


class Output:
    """Lines of JSON with what they share."""

    def __init__(self, options):
        self.file = options.output and options.output.open("w")
        self.shared = {
            "device": torch.cuda.get_device_name(),
            "dtype": options.dtype,
            "torch": torch.__version__,
            "conv": CONV,
        }

    def line(self, row: dict) -> dict:
        text = json.dumps({**row, **self.shared})
        print(text, flush=True)
        if self.file:
            print(text, file=self.file, flush=True)
        return row


def random_model(name: str, dtype: torch.dtype) -> MambaLMHeadModel:
    d_model, n_layer = MODELS[name]
    torch.manual_seed(0)
    config = MambaConfig(
        d_model=d_model,
        d_intermediate=0,
        n_layer=n_layer,
        vocab_size=50277,
        ssm_cfg={"layer": "Mamba2"},
        rms_norm=True,
        residual_in_fp32=True,
        fused_add_norm=True,
        pad_vocab_size_multiple=16,
        tie_embeddings=True,
    )
    return MambaLMHeadModel(config, device="cuda", dtype=dtype).eval()


def copy_bandwidth(size: int = 2 << 30) -> float:
    """Bytes read and written in a second by a copy in device memory."""
    source = torch.empty(size, dtype=torch.uint8, device="cuda").fill_(1)
    target = torch.empty_like(source)
    seconds = samples(lambda: target.copy_(source), repetitions=10, at_least=0.1)
    return 2 * size / statistics.median(seconds)


def samples(run, repetitions: int, at_least: float = 2.0) -> list[float]:
    """Seconds of each run, after one that is not counted."""
    run()
    torch.cuda.synchronize()
    taken = []
    while len(taken) < repetitions or sum(taken) < at_least:
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return taken


def row(path: str, tokens: int, seconds: list[float], **more) -> dict:
    speeds = [tokens / each for each in seconds]
    return {
        "path": path,
        "n": tokens,
        "tokens_per_s": round(statistics.median(speeds), 1),
        "samples_ts": [round(speed, 1) for speed in speeds[:64]],
        **more,
    }


def named(workload) -> dict:
    return {"bench": "prefill" if workload is prefill else "decode"}


def decode(model: MambaLMHeadModel, options, copy_gbps: float):
    tokens = options.n_gen
    replay, logits = step_graph(model, model.allocate_inference_cache(1, tokens + 1), tokens)
    seconds = samples(lambda: [replay() for _ in range(tokens)], options.repetitions)
    if not torch.isfinite(logits).all():
        raise ArithmeticError("logits that are not finite after decode")
    yield with_efficiency(row("graph", tokens, seconds), model, copy_gbps)


def generate(model: MambaLMHeadModel, options, copy_gbps: float):
    tokens = options.n_gen
    first = torch.ones(1, 1, dtype=torch.long, device="cuda")
    # A text of `length` tokens: the first is given, the second comes of the prompt's pass, the rest of one step each.
    text = lambda length: model.generate(first, max_length=length, top_k=1, cg=True)
    long = samples(lambda: text(tokens + 2), options.repetitions)
    prompt = statistics.median(samples(lambda: text(2), options.repetitions, at_least=0.2))
    yield with_efficiency(row("generate", tokens, [each - prompt for each in long], prompt_ms=round(1e3 * prompt, 2)), model, copy_gbps)
    model._decoding_cache = None


def with_efficiency(line: dict, model: MambaLMHeadModel, copy_gbps: float) -> dict:
    weights = sum(parameter.nbytes for parameter in model.parameters())
    state = sum(part.nbytes for pair in model.allocate_inference_cache(1, 1).values() for part in pair)
    moved = weights + 2 * state
    return {**line, "bytes_per_token": moved, "bw_efficiency": round(moved * line["tokens_per_s"] / 1e9 / copy_gbps, 3)}


def step_graph(model: MambaLMHeadModel, cache: dict, tokens: int):
    """A step that reads the token of the step before, captured."""
    ids = torch.ones(1, 1, dtype=torch.long, device="cuda")
    params = InferenceParams(max_seqlen=tokens + 1, max_batch_size=1, seqlen_offset=1, key_value_memory_dict=cache)

    def step():
        logits = model(ids, inference_params=params, num_last_tokens=1).logits
        ids.copy_(logits.argmax(dim=-1))
        return logits

    graph, logits = captured(step)
    return graph.replay, logits


def captured(run):
    """`run` as a CUDA graph, warmed up on a side stream as capturing asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph, result


def prefill(model: MambaLMHeadModel, options, copy_gbps: float):
    tokens = options.n_prompt
    ids = torch.randint(0, 50277, (1, tokens), device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    cache = model.allocate_inference_cache(1, tokens + 1)

    def run():
        params = InferenceParams(max_seqlen=tokens + 1, max_batch_size=1, key_value_memory_dict=cache)
        logits = model(ids, inference_params=params, num_last_tokens=1).logits
        return logits, logits.argmax(dim=-1)

    begun = time.perf_counter()
    logits, _ = run()
    torch.cuda.synchronize()
    tuned = round(time.perf_counter() - begun, 1)
    if not torch.isfinite(logits).all():
        raise ArithmeticError("logits that are not finite after prefill")
    yield row("eager", tokens, samples(run, options.repetitions), first_call_s=tuned)
    graph, _ = captured(run)
    yield row("graph", tokens, samples(graph.replay, options.repetitions))


if __name__ == "__main__":
    sys.exit(main())
