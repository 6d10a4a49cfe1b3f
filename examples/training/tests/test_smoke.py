"""From text to a model in a minute on a CPU: the whole command, stopped and resumed."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer

import checkpoint

HERE = Path(__file__).parent.parent


def story(rng: random.Random) -> str:
    name, thing = rng.choice("Anna Ben Lily Tom Sue Max".split()), rng.choice("ball kite book doll drum".split())
    place, feeling = rng.choice("park garden house forest".split()), rng.choice("happy glad proud".split())
    return (f"Once upon a time {name} had a {thing}. {name} took the {thing} to the {place}.\n\n"
            f"\"Where is my {thing}?\" asked {name}. The {thing} was in the {place}.\n\n"
            f"{name} found the {thing} and was {feeling}. The end.")


def train(text: Path, out: Path, *options: str) -> str:
    command = [sys.executable, str(HERE / "train.py"), "--text", str(text), "--out", str(out), "--size", "tiny",
               "--vocab-size", "400", "--length", "128", "--batch", "8", "--device", "cpu", *options]
    # One thread is as fast at this size, and does not wait for another where other programs have the processors.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_text_becomes_a_model(tmp_path: Path) -> None:
    text, out = tmp_path / "text", tmp_path / "out"
    text.mkdir()
    rng = random.Random(1)
    lines = [json.dumps({"text": story(rng)}) for _ in range(1500)]
    (text / "stories.jsonl").write_text("\n".join(lines) + "\n")

    train(text, out, "--steps", "80", "--retell", "stories=2", "--train-only")
    before = json.loads((out / "training.json").read_text())
    assert len(before["log"]) >= 2
    first, last = before["log"][0]["loss"], before["log"][-1]["loss"]
    assert last < 0.7 * first, f"the loss went from {first} to {last}"

    train(text, out, "--steps", "100")  # goes on
    after = json.loads((out / "training.json").read_text())
    assert after["steps"] > before["steps"] and after["log"][: len(before["log"])] == before["log"]

    model = out / "model"
    assert {f.name for f in model.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json", "model-card.md"}
    held_out = json.loads((out / "evaluation.json").read_text())["held_out"]["stories"]
    assert held_out["nats_per_token"] < 0.7 * first
    assert len(held_out["selected"]) == 2
    again, tokenizer = checkpoint.load(model), Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = torch.tensor([tokenizer.encode("Once upon a time").ids])
    with torch.no_grad():
        assert again(ids).logits.isfinite().all()
