"""Retrieval in plain English: a fact stated, other text, the fact asked for.

    Remember and answer.  …  Anna keeps the lamp in the cellar.  …  Where does Anna keep the lamp? Anna keeps the lamp in
    the cellar.
"""

import numpy as np
from tokenizers import Tokenizer

NAMES = ("Anna Ben Clara David Emma Fred Grace Henry Ida Jack Kate Leo Lucy Mary Max Nora Oscar Peter Rose Sam Sara Tim "
         "Tom Walter Will Molly Lily Mia Sue Bob").split()
OBJECTS = ("lamp key coin ring letter clock drum kite rope knife hat basket map bell spoon mirror candle book ball doll "
           "box blanket cup whistle flute brush sword crown pearl button").split()
PLACES = ("cellar attic garden kitchen barn tower stable church cave forest boat school chest drawer kettle well cupboard "
          "shed oven bag pocket castle mill wagon tent cottage desk hut bucket nest").split()
COLOURS = "red blue green yellow white black brown pink purple orange grey golden silver".split()
ANIMALS = "cat dog horse fox rabbit bear mouse lion frog duck goat pig owl wolf sheep hen cow fish bird deer".split()


def place(rng: np.random.Generator, name: str) -> tuple[str, str, str, str]:
    """(fact, question, beginning of the answer, answer)"""
    thing, where = rng.choice(OBJECTS), rng.choice(PLACES)
    start = f"{name} keeps the {thing} in the"
    return f"{start} {where}.", f"Where does {name} keep the {thing}?", start, f" {where}"


def colour(rng: np.random.Generator, name: str) -> tuple[str, str, str, str]:
    thing, value = rng.choice(OBJECTS), rng.choice(COLOURS)
    start = f"The {thing} of {name} is"
    return f"{start} {value}.", f"What colour is the {thing} of {name}?", start, f" {value}"


def animal(rng: np.random.Generator, name: str) -> tuple[str, str, str, str]:
    value = rng.choice(ANIMALS)
    start = f"The best friend of {name} is the"
    return f"{start} {value}.", f"Who is the best friend of {name}?", start, f" {value}"


# Begins every exercise, so that a story without it never turns into one.
TITLE = "Remember and answer."
KINDS = [place, colour, animal]


def paragraphs(ids: np.ndarray, newline: int, most: int) -> list[np.ndarray]:
    """Paragraphs of 8 to `most` tokens, each with the blank line after it."""
    ends = np.flatnonzero((ids[1:] == newline) & (ids[:-1] == newline)) + 2
    found = zip(ends[:-1], ends[1:])
    return [p for a, b in found if 8 <= b - a <= most and (p := ids[a:b]).all()]  # token 0 is end of text


class Exercises:
    def __init__(self, tokenizer: Tokenizer, filler: np.ndarray):
        self.tokenizer = tokenizer
        self.blank = self.encode("\n") * 2
        self.filler = paragraphs(filler, self.blank[0], 200)
        self.cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def tokens(self, text: str) -> list[int]:
        if text not in self.cache:
            self.cache[text] = self.encode(text)
        return self.cache[text]

    def some_filler(self, rng: np.random.Generator) -> np.ndarray:
        if not self.filler:
            raise SystemExit("retrieval: expected text with paragraphs separated by blank lines, found none; "
                             "a mix without \"retrieval\" does without")
        return self.filler[int(rng.integers(len(self.filler)))]

    def mixed(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """A text of `size` tokens with several facts, asked for at distances spread evenly in their logarithm.

        Also which of its tokens are answers.
        """
        events: list[tuple[int, int, list[int], int]] = []
        for order, name in enumerate(rng.permutation(NAMES)[: max(1, size // int(rng.integers(80, 200)))]):
            fact, question, start, answer = KINDS[int(rng.integers(len(KINDS)))](rng, name)
            at = int(rng.integers(max(1, size - 80)))
            events.append((at, order, self.tokens(fact) + self.blank, 0))
            ask = self.tokens(f"{question} {start}") + self.tokens(answer)
            for _ in range(int(rng.integers(1, 4))):
                distance = int(np.exp(rng.uniform(np.log(16), np.log(max(17, size - at)))))
                events.append((at + distance, order, ask, len(self.tokens(answer))))
        events.sort(key=lambda e: e[:2])
        ids = self.tokens(TITLE) + self.blank
        answers: list[int] = []
        end = self.tokens(".") + self.blank
        for at, _, text, answer in events:
            while len(ids) < at:
                ids.extend(self.some_filler(rng))
            ids.extend(text)
            if answer:
                answers.extend(range(len(ids) - answer, len(ids)))
                ids.extend(end)
        while len(ids) < size:
            ids.extend(self.some_filler(rng))
        is_answer = np.zeros(len(ids), bool)
        is_answer[answers] = True
        return np.array(ids[:size], np.uint16), is_answer[:size]

    def single(self, rng: np.random.Generator, distance: int) -> tuple[np.ndarray, int]:
        """One question about the first of three facts, and the number of tokens of its answer, which come last.

        From the fact's value to the answer it is exactly `distance` tokens.
        """
        names = rng.permutation(NAMES)[:3]
        kind = KINDS[int(rng.integers(len(KINDS)))]
        facts = [kind(rng, name) for name in names]
        _, question, start, answer = facts[0]
        wanted = self.encode(answer)
        before = self.tokens(TITLE) + self.blank + self.tokens(start)
        others = self.encode(".") + [t for fact in facts[1:] for t in self.blank + self.encode(fact[0])] + self.blank
        ask = self.encode(f"{question} {start}")
        room = distance - len(wanted) - len(others) - len(ask)
        if room < 0:
            raise ValueError(f"distance {distance}: expected at least {distance - room}")
        filler: list[int] = []
        while len(filler) < room:
            filler.extend(self.some_filler(rng))
        # Its beginning is cut off, so that the question follows a whole paragraph.
        filler = filler[len(filler) - room :]
        return np.array(before + wanted + others + filler + ask + wanted, np.int64), len(wanted)
