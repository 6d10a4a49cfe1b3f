"""Text, tokens and exercises."""

import json
from pathlib import Path

import numpy as np
import pytest

from data import Batches, read_mix
from names import rename
from prepare import END, cut, encode, prepare, retellings, split

STORY = "Lily keeps a cat. She asked Tom: \"Will you come?\"\n\nTom came. Lily laughed.\n\n"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    texts = [STORY * (3 + n % 5) + f"The end of number {n}." for n in range(200)]
    (folder / "a.txt").write_text(END.join(texts))
    (folder / "b.jsonl").write_text("".join(
        json.dumps({"text": t, "split": "heldout" if n < 3 else "train"}) + "\n" for n, t in enumerate(texts)))
    out = tmp_path_factory.mktemp("tokens")
    prepare(folder, out, 400, {})
    return out


def test_documents_end_with_the_end_of_text(tokens: Path) -> None:
    ids = np.fromfile(tokens / "b.train.bin", np.uint16)
    assert (ids == 0).sum() == 197 and ids[-1] == 0
    assert json.loads((tokens / "sizes.json").read_text())["b.heldout"]["documents"] == 3


def test_something_is_always_held_out(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(END.join(["one", "two", "one", "three"]))
    parts = split(tmp_path / "c.txt")
    assert len(parts["train"]) + len(parts["heldout"]) == 4
    assert parts["train"] and parts["heldout"] and not set(parts["train"]) & set(parts["heldout"])


def test_text_comes_back(tokens: Path) -> None:
    batches = Batches(tokens, None, 64, 2, 1)
    tokenizer = batches.exercises.tokenizer
    text = "naïve café — 日本語 🐍\n\n" * 5000
    assert tokenizer.decode(encode(tokenizer, [text])[:-1].tolist()) == text
    assert "".join(["\n\n".join(cut(text))]).replace("\n\n\n\n", "\n\n").startswith("naïve")


def test_a_step_is_the_same_whenever_it_is_drawn(tokens: Path) -> None:
    first, again = (Batches(tokens, None, 64, 4, 1).at(7, 0.5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert first[0].shape == (4, 65) and first[1].shape == (4, 64)
    assert not np.array_equal(first[0], Batches(tokens, None, 64, 4, 1).at(8, 0.5)[0])


def test_exercises_ask_for_what_was_stated(tokens: Path) -> None:
    exercises = Batches(tokens, None, 64, 2, 1).exercises
    rng = np.random.default_rng(1)
    for distance in (256, 400):
        ids, answer = exercises.single(rng, distance)
        assert np.array_equal(ids[-answer:], ids[-answer - distance : len(ids) - distance])
    ids, answers = exercises.mixed(rng, 1000)
    assert len(ids) == 1000 and answers.any()
    with pytest.raises(ValueError, match="expected at least"):
        exercises.single(rng, 5)


def test_names_stay_apart() -> None:
    told = rename(STORY, np.random.default_rng(3))
    assert "Will you" in told and told != STORY
    girl, boy = told.split()[0], told.split("\n\n")[1].split()[0]
    assert girl != boy and told.count(girl) == 2 and told.count(boy) == 2


def test_mistakes_are_explained(tokens: Path, tmp_path: Path) -> None:
    mix = tmp_path / "mix.json"
    mix.write_text('[{"until": 1.0, "weights": {"poems": 1}}]')
    with pytest.raises(SystemExit, match="no such sources.*poems"):
        read_mix(mix, ["a", "b"])
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "x"}\n{"title": "y"}\n')
    with pytest.raises(SystemExit, match="line 2.*expected an object with `text`"):
        split(bad)
    with pytest.raises(SystemExit, match="NAME=TIMES"):
        retellings(["tinystories"])
