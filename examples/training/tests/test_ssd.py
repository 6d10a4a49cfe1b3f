"""The chunked form against the recurrence, in float64."""

import pytest
import torch

from ssd import ssd


def recurrence(x, dt, A, B, C, state):
    heads, group = x.shape[2], x.shape[2] // B.shape[2]
    ys = []
    for t in range(x.shape[1]):
        for_heads = [m[:, t].repeat_interleave(group, 1) for m in (B, C)]
        decay = (dt[:, t] * A).exp()[..., None, None]
        state = decay * state + (dt[:, t, :, None] * x[:, t])[..., None] * for_heads[0][:, :, None]
        ys.append((state * for_heads[1][:, :, None]).sum(-1))
    return torch.stack(ys, 1), state


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 50])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("given", [False, True], ids=["from nothing", "from a state"])
def test_chunks_agree_with_the_recurrence(length: int, groups: int, given: bool) -> None:
    torch.manual_seed(length)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    x, dt, A = draw(2, length, 4, 3), draw(2, length, 4).exp(), -draw(4).exp()
    B, C = draw(2, length, groups, 5), draw(2, length, groups, 5)
    state = draw(2, 4, 3, 5) if given else torch.zeros(2, 4, 3, 5, dtype=torch.float64)
    expected = recurrence(x, dt, A, B, C, state)
    found = ssd(x, dt, A, B, C, 16, state if given else None)
    for a, b in zip(found, expected):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9), (a - b).abs().max()
