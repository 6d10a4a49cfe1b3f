"""The trainer's model against the golden files: float64, token by token, no code shared."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import checkpoint
from bound import bucket

CASES = ["base", "all_selected", "none_selected", "grouped_kv", "rotary", "untied_groups2", "wide_heads", "pure_mamba2",
         "bounded"]
# Honest f32 arithmetic was measured at up to 3e-4 against them.
TOLERANCE = 5e-4


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs() / (1 + expected.abs())).max().item()


def pieces(ids: torch.Tensor, size: int) -> list[torch.Tensor]:
    return list(ids.split(size, 1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [1, 13, 10_000], ids=["token by token", "pieces of 13", "whole"])
def test_logits_and_gates(golden: Path, case: str, size: int) -> None:
    model = checkpoint.load(golden / case)
    meta = json.loads((golden / case / "golden.json").read_text())
    option = meta["options"]["attention_bound"]
    bound = (option["attention_budget"], option["burst"]) if option else None
    expected = load_file(golden / case / "golden.safetensors")
    for prompt in meta["prompts"]:
        logits, masks, alphas, state = [], [], [], None
        for piece in pieces(expected[f"{prompt}.ids"].unsqueeze(0), size):
            with torch.no_grad():
                out = model(piece, state, keep_state=True, bound=bound)
            state = out.state
            logits.append(out.logits[0])
            masks.append([g.mask[0] for g in out.gates])
            alphas.append([g.alpha[0] for g in out.gates])
        found = error(torch.cat(logits), expected[f"{prompt}.logits"])
        assert found <= TOLERANCE, f"{case}, prompt {prompt}: logits differ by {found}"
        if f"{prompt}.mask" in expected:
            mask = torch.stack([torch.cat(layer) for layer in zip(*masks)])
            assert torch.equal(mask.to(torch.uint8), expected[f"{prompt}.mask"]), f"{case}, prompt {prompt}"
            alpha = torch.stack([torch.cat(layer) for layer in zip(*alphas)])
            assert error(alpha, expected[f"{prompt}.alpha"]) <= TOLERANCE


def test_a_wrong_model_is_found_out(golden: Path) -> None:
    model = checkpoint.load(golden / "base")
    with torch.no_grad():
        model.layers[0].mixer.A_log += 0.01
    expected = load_file(golden / "base" / "golden.safetensors")
    with torch.no_grad():
        out = model(expected["100.ids"].unsqueeze(0))
    assert error(out.logits[0], expected["100.logits"]) > TOLERANCE


def test_the_bucket_counts_whole_tokens() -> None:
    mask, credit = bucket(torch.ones(1, 10), None, 0.25, 3.0)
    assert mask.tolist() == [[1, 1, 1, 0, 1, 0, 0, 0, 1, 0]]
    assert credit == [16384]
