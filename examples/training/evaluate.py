"""Measures a model as it is stored, in f32: loss on held-out text, what the gates select, retrieval by distance, and
perplexity by context length.

    python evaluate.py OUT/model --tokens OUT/tokens
    python evaluate.py OUT/model --tokens OUT/tokens --attention-bound 0.15
    python evaluate.py OUT/model --tokens OUT/tokens --books OUT/tokens/longctx.heldout.bin
"""

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

import checkpoint
from model import Taipan
from retrieval import Exercises

Bound = tuple[float, float] | None
# Tokens of one call, and of one sequence in it; longer texts carry their state from call to call.
CALL, SEGMENT = 32768, 2048
# Where a gate's margin is smaller, rounding could decide.
NEAR = 0.01


@dataclass
class GateCount:
    """Sums over the tokens seen, per selective-attention layer."""

    tokens: int = 0
    selected: list[int] = field(default_factory=list)
    near: list[int] = field(default_factory=list)

    def add(self, gates: list[Any], tokens: int) -> None:
        self.tokens += tokens
        self.selected = self.selected or [0] * len(gates)
        self.near = self.near or [0] * len(gates)
        for i, gate in enumerate(gates):
            self.selected[i] += int(gate.mask.sum())
            self.near[i] += int((gate.margin.abs() < NEAR).sum())

    def report(self) -> dict[str, list[float]]:
        def share(counts: list[int]) -> list[float]:
            return [round(n / max(1, self.tokens), 5) for n in counts]

        return {"selected": share(self.selected), "margin_under_0.01": share(self.near)}


@torch.no_grad()
def nats(model: Taipan, windows: Tensor, bound: Bound = None, gates: GateCount | None = None) -> Tensor:
    """−ln p of all tokens but the first of each window, each window with a state of its own: [n, l] to [n, l − 1], on the CPU."""
    device = next(model.parameters()).device
    segment = min(SEGMENT, windows.shape[1])
    rows = max(1, CALL // segment)
    results = []
    for batch in windows.split(rows):
        state, parts = None, []
        for at in range(0, windows.shape[1], segment):
            ids = batch[:, at : at + segment].to(device)
            targets = batch[:, at + 1 : at + 1 + segment].to(device)
            out = model(ids, state, keep_state=True, bound=bound)
            state = out.state
            logits = out.logits[:, : targets.shape[1]]
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            parts.append(loss.view(targets.shape).cpu())
            if gates is not None:
                gates.add(out.gates, ids.numel())
        results.append(torch.cat(parts, 1))
    return torch.cat(results)


def windows_of(ids: np.ndarray, length: int) -> Tensor:
    """Windows one after the other; the rest at the end is left out."""
    count = len(ids) // length
    return torch.from_numpy(ids[: count * length].astype(np.int64)).view(count, length)


def held_out(model: Taipan, tokens: Path, length: int, most: int, bound: Bound) -> dict[str, Any]:
    """Loss of every source's held-out documents, in windows of `length`."""
    tokenizer = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    result = {}
    for file in sorted(tokens.glob("*.heldout.bin")):
        ids = np.fromfile(file, np.uint16)[:most]
        if len(ids) < length:
            continue
        windows, gates = windows_of(ids, length), GateCount()
        losses = nats(model, windows, bound, gates).double()
        size = len(tokenizer.decode(windows.flatten().tolist(), skip_special_tokens=False).encode())
        mean = losses.mean().item()
        bits = mean * windows.numel() / size / math.log(2)
        result[file.name.split(".")[0]] = {"tokens": windows.numel(), "nats_per_token": round(mean, 4),
                                           "bits_per_byte": round(bits, 4), **gates.report()}
    return result


@torch.no_grad()
def retrieval(model: Taipan, tokens: Path, distances: list[int], samples: int, bound: Bound) -> dict[str, float]:
    """Share of questions whose whole answer is the most probable one, token by token, by distance from the fact.

    The text between is held-out text, and one fact in three is asked for.
    """
    files = [f for name in ("children", "tinystories") if (f := tokens / f"{name}.heldout.bin").exists()]
    files = files or sorted(tokens.glob("*.heldout.bin"))
    filler = np.concatenate([np.fromfile(f, np.uint16)[:300_000] for f in files])
    exercises = Exercises(Tokenizer.from_file(str(tokens / "tokenizer.json")), filler)
    device = next(model.parameters()).device
    result = {}
    for distance in distances if exercises.filler else []:
        rng = np.random.default_rng(distance)
        by_length: dict[int, list[tuple[np.ndarray, int]]] = {}
        try:
            drawn = [exercises.single(rng, distance) for _ in range(samples)]
        except ValueError as error:  # a small vocabulary needs more tokens for the question
            print(f"retrieval left out: {error}", flush=True)
            continue
        for ids, answer in drawn:
            by_length.setdefault(len(ids), []).append((ids, answer))
        right = 0
        for length, rows in by_length.items():
            most = CALL // min(SEGMENT, length)
            for first in range(0, len(rows), most):
                batch = rows[first : first + most]
                ids = torch.from_numpy(np.stack([ids for ids, _ in batch])).to(device)
                best = greedy_at_end(model, ids, max(n for _, n in batch), bound)
                right += sum(bool((best[i, -n:] == ids[i, -n:].cpu()).all()) for i, (_, n) in enumerate(batch))
        result[str(distance)] = round(right / samples, 4)
    return result


def greedy_at_end(model: Taipan, ids: Tensor, count: int, bound: Bound) -> Tensor:
    """The most probable tokens at the last `count` places, each given the true ones before it."""
    state, best = None, []
    for part in ids[:, :-1].split(SEGMENT, 1):
        out = model(part, state, keep_state=True, bound=bound)
        state = out.state
        best = (best + [out.logits[:, -count:].argmax(-1).cpu()])[-2:]
    return torch.cat(best, 1)[:, -count:]


def by_context(model: Taipan, books: Path, lengths: list[int], tokens: int, most_books: int, bound: Bound) -> dict[str, float]:
    """Perplexity of the beginnings of books, read in windows of each length, like `taipan perplexity --context`."""
    ids = np.fromfile(books, np.uint16)
    ends = np.flatnonzero(ids == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    texts = [ids[a : a + tokens] for a, b in zip(starts, ends) if b - a >= tokens][:most_books]
    if not texts:
        raise SystemExit(f"{books}: expected documents of at least {tokens} tokens, found none")
    result = {}
    for length in lengths:
        windows = torch.cat([windows_of(text, length) for text in texts])
        result[str(length)] = round(math.exp(nats(model, windows, bound).double().mean().item()), 4)
        print(f"context {length}: perplexity {result[str(length)]}", flush=True)
    return result


def evaluate(folder: Path, tokens: Path, device: str, bound: Bound = None, quick: bool = False) -> dict[str, Any]:
    """Everything but the books; `quick` is a small part of it, for a CPU."""
    torch.set_float32_matmul_precision("highest")
    model = checkpoint.load(folder).to(device)
    length = model.config.max_trained_length
    quick = quick or device == "cpu"
    distances = [64, 256] if quick else [64, 256, 1024, 4096, 16384]
    return {
        "bound": bound,
        "held_out": held_out(model, tokens, length, 40_000 if quick else 200_000, bound),
        "retrieval": retrieval(model, tokens, distances, 50 if quick else 500, bound),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", type=Path, help="folder with config.json and model.safetensors")
    add("--tokens", type=Path, required=True, help="folder that prepare.py wrote")
    add("--attention-bound", type=float, metavar="C", help="hard bound on the share of tokens that attend")
    add("--burst", type=float, default=16.0)
    add("--books", type=Path, help="measure perplexity by context length on this file of token ids, nothing else")
    add("--most-books", type=int, default=100)
    add("--longest", type=int, default=131072)
    add("--quick", action="store_true")
    add("--out", type=Path, help="file to write [default: only print]")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    o = parser.parse_args()
    bound = None if o.attention_bound is None else (o.attention_bound, o.burst)
    if o.books is None:
        result = evaluate(o.model, o.tokens, o.device, bound, o.quick)
    else:
        torch.set_float32_matmul_precision("highest")
        lengths = [512 << i for i in range(20) if 512 << i <= o.longest]
        model = checkpoint.load(o.model).to(o.device)
        result = {"bound": bound, "by_context": by_context(model, o.books, lengths, o.longest, o.most_books, bound)}
    text = json.dumps(result, indent=1)
    print(text)
    if o.out is not None:
        o.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
