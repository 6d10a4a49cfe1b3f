"""The runtime's logits on trained, stored weights against the trainer's."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import checkpoint

EMBEDDED = Path(__file__).parents[3] / "crates" / "cli" / "model"
TEXT = "Once upon a time, there was a little girl named Lily. She loved to play in the garden with her dog.\n\nOne day " * 8


def test_logits_of_the_embedded_model(tmp_path: Path) -> None:
    program = os.environ.get("TAIPAN_PROGRAM")
    if program is None:
        pytest.skip("TAIPAN_PROGRAM is not set: expected the path of the taipan program")
    ids = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json")).encode(TEXT).ids
    with torch.no_grad():
        out = checkpoint.load(EMBEDDED)(torch.tensor([ids]))
    # Up to the first token that rounding could select or not: from there on two correct results may differ.
    near = torch.stack([g.margin[0].abs() < 1e-3 for g in out.gates]).any(0)
    count = int(near.int().argmax()) if near.any() else len(ids)
    assert count >= 20, "nearly no token has a clear gate"
    file = tmp_path / "logits.safetensors"
    listed = ",".join(map(str, ids))
    subprocess.run([program, "logits", "-m", str(EMBEDDED), "--ids", listed, "-o", str(file), "--device", "cpu"], check=True)
    found = load_file(file)
    for layer, gates in enumerate(out.gates):
        assert torch.equal(found["mask"][layer, :count], gates.mask[0, :count].to(torch.uint8))
    error = (found["logits"][:count] - out.logits[0, :count]).abs() / (1 + out.logits[0, :count].abs())
    assert error.max() <= 5e-4, f"{count} tokens: logits differ by {error.max()}"
