"""Tells a story again with other first names, so that a small source says something else each time it comes round."""

import re

import numpy as np

# Names that are nothing else at the start of a sentence: no Will, Mark, Bill, Rose or Daisy.
GIRLS = ("Lily Sue Mia Anna Amy Sara Jane Lucy Emma Mary Molly Sally Jenny Kate Alice Ella Lisa Nora Clara Ida Lola Kim "
         "Sarah Anne Maya Zoe Eva Polly").split()
BOYS = ("Tim Tom Ben Max Jack Sam Bob Joe Billy Timmy Peter Jim John Fred Dan George Harry Leo Oscar David Henry Alex "
        "Tommy Bobby Johnny Jacob Paul Adam").split()
NAME = re.compile(r"\b(" + "|".join(GIRLS + BOYS) + r")\b")


def rename(text: str, rng: np.random.Generator) -> str:
    """Different names stay different, girls stay girls and boys stay boys, so the pronouns still fit."""
    other: dict[str, str] = {}
    for group in (GIRLS, BOYS):
        other |= dict(zip(group, rng.permutation(group).tolist()))
    return NAME.sub(lambda match: other[match[0]], text)


def retold(texts: list[str], times: int, seed: int = 1) -> list[str]:
    """All texts, and then all of them again with other names, until there are `times` as many."""
    rng = np.random.default_rng(seed)
    return texts + [rename(text, rng) for _ in range(times - 1) for text in texts]
