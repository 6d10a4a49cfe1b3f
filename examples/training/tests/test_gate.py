"""The two traps of the gate: noise to the end, and weight decay."""

import pytest
import torch

from attention import straight_through
from config import preset, without_selection
from model import Taipan
from train import budget, margin_loss, noise_scale, optimizer


def test_the_noise_ends() -> None:
    assert noise_scale(0.0, 1.0, 0.6) == 1.0
    assert noise_scale(0.6, 1.0, 0.6) == noise_scale(1.0, 1.0, 0.6) == 0.0
    scores = torch.randn(100, 2)
    quiet = straight_through(scores, torch.tensor(0.0))
    assert torch.equal(quiet.round(), (scores[:, 1] > scores[:, 0]).float())


def test_decisions_are_hard_and_have_a_gradient() -> None:
    scores = torch.randn(1000, 2, requires_grad=True)
    mask = straight_through(scores, torch.tensor(1.0))
    assert ((mask - mask.round()).abs() < 1e-6).all()
    mask.sum().backward()
    assert (scores.grad[:, 1] > 0).all()


def test_the_gate_has_no_weight_decay() -> None:
    model = Taipan(preset("tiny", 300))
    decayed = {id(p) for p in optimizer(model, 1e-3, 0.1, False).param_groups[0]["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == (parameter.dim() == 2 and "gate.weight" not in name), name


def test_ties_are_pushed_apart() -> None:
    margin = torch.tensor([0.01, -0.01, 2.0], requires_grad=True)
    margin_loss(margin).backward()
    assert margin.grad[0] < 0 < margin.grad[1] and margin.grad[2] == 0


def test_only_a_trained_model_is_reopened() -> None:
    assert budget(0.0, 0.15, reopen=False) == 0.15
    assert budget(0.0, 0.15, reopen=True) == 1.0
    assert budget(0.55, 0.15, reopen=True) == pytest.approx(0.15)


@pytest.mark.parametrize("variant", ["mamba", "full"])
def test_comparisons_have_as_many_parameters(variant: str) -> None:
    count = lambda config: sum(p.numel() for p in Taipan(config).parameters())
    config = preset("small", 4096)
    assert count(without_selection(config, variant)) == pytest.approx(count(config), rel=0.01)
