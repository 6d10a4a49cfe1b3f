"""Results that the runtime is held to: perplexity.json and greedy.json beside a model, in f32 on its stored weights.

    python goldens.py MODEL --heldout heldout.txt
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer

import checkpoint
import generate
from evaluate import GateCount, nats

PROMPTS = generate.PROMPTS[:3]
MOST = 80
PROTOCOL = ("encode heldout.txt once (<|endoftext|> is one token, nothing added), one pass with full state, mean over tokens 2..n of "
            "-ln p, float32 arithmetic on the stored f16/f32 weights")


def perplexity(folder: Path) -> dict[str, object]:
    model, tokenizer = checkpoint.load(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode((folder / "heldout.txt").read_text(encoding="utf-8")).ids
    gates = GateCount()
    mean = nats(model, torch.tensor([ids]), None, gates).double().mean().item()
    return {"tokens": len(ids), "predicted": len(ids) - 1, "nll_mean": mean, "perplexity": math.exp(mean),
            "selected_fraction": [n / gates.tokens for n in gates.selected], "first_ids": ids[:48], "protocol": PROTOCOL}


def greedy(folder: Path) -> dict[str, str]:
    model, tokenizer = checkpoint.load(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    return {prompt: generate.greedy(model, tokenizer, prompt, MOST)[0] for prompt in PROMPTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--heldout", type=Path, help="text to measure [default: MODEL/heldout.txt]")
    options = parser.parse_args()
    if options.heldout is not None:
        shutil.copy(options.heldout, options.model / "heldout.txt")
    for name, result in (("perplexity.json", perplexity(options.model)), ("greedy.json", greedy(options.model))):
        (options.model / name).write_text(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
