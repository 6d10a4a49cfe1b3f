"""Greedy text by the trainer's model, in f32: samples for the card, and golden texts for the runtime."""

from pathlib import Path

import torch
from tokenizers import Tokenizer

import checkpoint
from model import Taipan

PROMPTS = [
    "Once upon a time",
    "Lily and Tom went to the park.",
    "The little dog was sad because",
    "One day, a boy named Ben found a red ball",
    "There was once a king who had three daughters.",
    "The old woman lived in a small house near the forest.",
    "\"Where is my hat?\" asked the bear.",
    "It was a cold winter night and the snow",
    "A little mouse wanted to",
    "Mia had a big secret.",
]


@torch.no_grad()
def greedy(model: Taipan, tokenizer: Tokenizer, prompt: str, most: int) -> tuple[str, bool]:
    """The prompt and its continuation, and whether the model ended the text itself."""
    device = next(model.parameters()).device
    ids = tokenizer.encode(prompt).ids
    out = model(torch.tensor([ids], device=device), keep_state=True)
    added: list[int] = []
    while len(added) < most:
        token = int(out.logits[0, -1].argmax())
        if token == model.config.eos_token_id:
            return tokenizer.decode(ids + added), True
        added.append(token)
        out = model(torch.tensor([[token]], device=device), out.state, keep_state=True)
    return tokenizer.decode(ids + added), False


def samples(folder: Path, most: int) -> list[tuple[str, str, bool]]:
    """(prompt, text, ended) of every prompt above."""
    model, tokenizer = checkpoint.load(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [(prompt, *greedy(model, tokenizer, prompt, most)) for prompt in PROMPTS]
