#!/usr/bin/env python3
"""Tiny checkpoints of random weights for the Mamba-2 family, with golden results.

    python make.py OUT --seed 1 [--only NAME,...]

Every case is a folder laid out like a published checkpoint, plus golden.json and golden.safetensors as `taipan validate`
reads them. The numbers come from transformers on the CPU in float32 (weights stored in 16 bits are widened), eager attention,
the greedy continuation from its cached decode; all of it is compared with reference.py, which shares no code. Where there is
nothing in transformers to ask, or it clamps the step in prefill only and the clamp binds (spec, gotcha 1), the numbers are those of
reference.py.
"""
import argparse
import copy
import math
import os
import shutil
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reference
from fixtures import build, fixtures, hf_class, rng, write_json

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

NEW = 16            # greedy tokens
TOLERANCE = 1e-3    # transformers against the reference, and its cached decode against a full forward
MARGIN = 0.03       # between the two best logits at every greedy step
ROUTE = 1e-4        # between the last expert chosen and the next one


class HF:
    def __init__(self, spec, d):
        cls = hf_class(spec)
        if spec.get("style") == "mamba_ssm":           # same weights under the transformers names
            self.model = cls(cls.config_class(**spec["cfg"]))
            w = {k.replace("backbone.embedding.", "backbone.embeddings."): v
                 for k, v in load_file(os.path.join(d, "model.safetensors")).items()}
            w["lm_head.weight"] = w["backbone.embeddings.weight"]
            self.model.load_state_dict(w)
        else:
            self.model, info = cls.from_pretrained(
                d, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
            bad = {k: v for k, v in info.items() if v and k in ("missing_keys", "unexpected_keys", "mismatched_keys")}
            assert not bad, bad
        self.model.eval()
        self.key = "cache_params" if spec["cls"] == "Mamba2" else "past_key_values"
        assert all(p.dtype == torch.float32 for p in self.model.parameters())

    @torch.no_grad()
    def full(self, ids):
        return self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]

    @torch.no_grad()
    def step(self, ids, cache, pos):
        kw = {self.key: cache} if cache is not None else {}
        if self.key == "past_key_values":              # Bamba does not derive positions from the cache
            kw["position_ids"] = torch.arange(pos, pos + len(ids))[None]
        o = self.model(input_ids=torch.tensor([ids]), use_cache=True, **kw)
        return o.logits[0], getattr(o, self.key)

    def greedy(self, ids, n=NEW):
        lg, cache = self.step(ids, None, 0)
        rows, out, pos = [lg[-1]], [], len(ids)
        while True:
            out.append(int(rows[-1].argmax()))
            if len(out) == n:
                return out, torch.stack(rows)
            lg, cache = self.step([out[-1]], cache, pos)
            rows.append(lg[-1])
            pos += 1

    @torch.no_grad()
    def generate(self, ids, n=NEW):
        g = self.model.generation_config
        g.eos_token_id, g.pad_token_id = None, 0
        t = torch.tensor([ids])
        return self.model.generate(t, attention_mask=torch.ones_like(t), max_new_tokens=n, do_sample=False)[0, len(ids):].tolist()


class Reference:
    """The same interface on the reference; `clamp` says over how many tokens the step is clamped (None: all)."""

    def __init__(self, d, clamp=None):
        self.model, self.clamp = reference.load(d), clamp

    def full(self, ids):
        return torch.from_numpy(self.model.forward(ids, self.clamp)[0].astype(np.float32))

    def greedy(self, ids, n=NEW):
        cur, rows = list(ids), []
        for _ in range(n):
            rows.append(self.full(cur)[-1])
            cur.append(int(rows[-1].argmax()))
        return cur[len(ids):], torch.stack(rows)


def margin(rows):
    top = rows.topk(2, -1).values
    return float((top[:, 0] - top[:, 1]).min())


def oracle_of(spec, d):
    """What is asked for the golden numbers. The runtime clamps everywhere, zamba2 nowhere."""
    if spec["name"].startswith("zamba2") and "dtmin" in spec["name"]:
        return Reference(d, 0)
    return HF(spec, d) if spec["cls"] and "_dt" not in spec["name"] else Reference(d)


def safe_prompt(spec, seed, length, oracle, ref):
    """A prompt on which no decision is close, with its continuation."""
    vocab = spec["ss"]["vocab_size"] if "ss" in spec else spec["cfg"]["vocab_size"]
    clamp = getattr(oracle, "clamp", None)
    for attempt in range(400):
        ids = rng("p", seed, spec["name"], length, attempt).integers(1, vocab, length).tolist()
        greedy, rows = oracle.greedy(ids)
        expected, ctx = ref.forward(ids + greedy[:-1], clamp)
        varied = len(set(greedy)) >= 4 and max(greedy) < vocab
        if margin(rows) >= MARGIN and ctx["route"] >= ROUTE and varied:
            return ids, greedy, rows, expected
    raise RuntimeError(f"{spec['name']}, {length} tokens: no prompt with safe margins")


def make(spec, seed, out):
    d = os.path.join(out, spec["name"])
    shutil.rmtree(d, ignore_errors=True)
    build(spec, seed, d)
    oracle, ref = oracle_of(spec, d), reference.load(d)
    gold, prompts, worst = {}, {}, 0.0
    for length in spec["lens"]:
        key = f"len{length}"
        ids, greedy, rows, expected = safe_prompt(spec, seed, length, oracle, ref)
        logits = oracle.full(ids)
        worst = max(worst, float(np.abs(logits.numpy() - expected[:length]).max()),
                    float(np.abs(rows.numpy() - expected[length - 1:]).max()))
        gold[f"{key}.ids"] = torch.tensor(ids, dtype=torch.int64)
        gold[f"{key}.logits"] = logits.float().contiguous()
        prompts[key] = {"length": length, "greedy": greedy}
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{spec['name']}: {worst} from the reference")
    if spec.get("pickled", 0) > 1:
        os.remove(os.path.join(d, "model.safetensors"))
    save_file(gold, os.path.join(d, "golden.safetensors"))
    write_json(os.path.join(d, "golden.json"), {
        "options": {"attention_bound": None}, "prompts": prompts, "seed": seed,
        "source": "transformers " + transformers.__version__ if isinstance(oracle, HF) else "reference.py"})
    for x in os.listdir(d):
        os.chmod(os.path.join(d, x), 0o644)
    size = sum(os.path.getsize(os.path.join(d, x)) for x in os.listdir(d))
    print(f"{spec['name']:20s} {size / 1024:7.0f} KiB, {worst:.1e} from the reference", flush=True)
    return size


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--only", default="", help="comma-separated names or prefixes ending in *")
    a = ap.parse_args()
    chosen = [x for x in a.only.split(",") if x]
    hit = lambda n: not chosen or any(n == s or (s.endswith("*") and n.startswith(s[:-1])) for s in chosen)
    os.makedirs(a.out, exist_ok=True)
    total = sum(make(spec, a.seed, a.out) for name, spec in fixtures().items() if hit(name))
    print(f"{total / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
