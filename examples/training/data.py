"""Batches of token ids: a mixture of sources, the same for a seed and a step whatever the model."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from retrieval import Exercises

RETRIEVAL = "retrieval"
END = 0
# Weight of an answer in the loss: one token in a thousand, but what attention is for.
ANSWER = 10.0


@dataclass
class Source:
    ids: np.ndarray
    starts: np.ndarray  # first token of each document

    @classmethod
    def read(cls, file: Path) -> "Source":
        ids = np.fromfile(file, np.uint16)
        return cls(ids, np.concatenate([[0], np.flatnonzero(ids == END)[:-1] + 1]))


@dataclass
class Phase:
    """Up to this share of the training, sources are drawn with these weights."""

    until: float
    weights: dict[str, float]
    # Share of sequences that begin with a document, as a prompt does; the others begin anywhere.
    at_start: float = 0.25


def read_mix(file: Path, sources: list[str]) -> list[Phase]:
    """The phases of a mix file: a list of {"until", "weights", "at_start"}."""
    phases = [Phase(**phase) for phase in json.loads(file.read_text())]
    for phase in phases:
        unknown = set(phase.weights) - set(sources) - {RETRIEVAL}
        if unknown:
            raise SystemExit(f"{file}: no such sources: {sorted(unknown)}; there are {sorted(sources)} and {RETRIEVAL}")
    if phases[-1].until != 1.0:
        raise SystemExit(f"{file}: expected the last phase to have \"until\": 1.0, found {phases[-1].until}")
    return phases


class Batches:
    def __init__(self, folder: Path, mix: Path | None, length: int, batch: int, seed: int, retrieval: float = 0.05):
        self.length, self.batch, self.seed = length, batch, seed
        files = sorted(folder.glob("*.train.bin"))
        self.sources = {f.name.removesuffix(".train.bin"): Source.read(f) for f in files if f.stat().st_size > 2 * (length + 2)}
        if not self.sources:
            raise SystemExit(f"{folder}: expected a source of more than {length} tokens, found none")
        if mix is None:  # by size
            whole = sum(len(s.ids) for s in self.sources.values())
            weights = {n: (1 - retrieval) * len(s.ids) / whole for n, s in self.sources.items()}
            self.phases = [Phase(1.0, weights | {RETRIEVAL: retrieval})]
        else:
            self.phases = read_mix(mix, list(self.sources))
        # Between a fact and its question stands text of the last phase's main sources.
        filler = [n for n, _ in sorted(self.phases[-1].weights.items(), key=lambda w: -w[1]) if n != RETRIEVAL][:2]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.exercises = Exercises(tokenizer, np.concatenate([self.sources[n].ids for n in filler]))

    def phase(self, progress: float) -> Phase:
        return next(p for p in self.phases if progress < p.until or p is self.phases[-1])

    def at(self, step: int, progress: float) -> tuple[np.ndarray, np.ndarray]:
        """Ids [batch, length + 1], inputs and, one later, targets; and the weights of the targets [batch, length]."""
        rng = np.random.default_rng([self.seed, step])
        phase = self.phase(progress)
        names = list(phase.weights)
        share = np.array([phase.weights[n] for n in names])
        rows = [self.row(rng, names[i], phase.at_start) for i in rng.choice(len(names), self.batch, p=share / share.sum())]
        weights = np.stack([1 + (ANSWER - 1) * answer[1:] for _, answer in rows])
        return np.stack([ids for ids, _ in rows]).astype(np.int64), weights.astype(np.float32)

    def row(self, rng: np.random.Generator, name: str, at_start: float) -> tuple[np.ndarray, np.ndarray]:
        """Ids, and which of them answer a question."""
        size = self.length + 1
        if name == RETRIEVAL:
            return self.exercises.mixed(rng, size)
        source = self.sources[name]
        last = len(source.ids) - size
        start = int(rng.integers(last + 1))
        if rng.random() < at_start:  # the document nearest before, so that long ones come as often as they are long
            first = source.starts[np.searchsorted(source.starts, start, "right") - 1]
            start = min(int(first), last)
        return source.ids[start : start + size], np.zeros(size, bool)
