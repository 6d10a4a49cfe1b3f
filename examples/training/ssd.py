"""The state-space recurrence of Mamba-2, computed chunk by chunk with matrix products.

    S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T        y_t = S_t C_t

Inside a chunk the recurrence is a masked matrix product; between chunks only the states are passed on. Letters of shapes:
b batch, l length, c chunks, q tokens of a chunk, g groups, r heads of a group, p head_dim, n d_state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def decays(a: Tensor) -> Tensor:
    """exp of the sums a[j+1..i] for i >= j, otherwise 0: [..., q] to [..., q, q].

    The sums are differences of cumulative sums within one chunk of at most 128 tokens, in f32: the tests hold the
    result to a float64 recurrence. The mask is put in before exp, because the other half can overflow.
    """
    q = a.shape[-1]
    total = a.cumsum(-1)
    lower = torch.ones(q, q, dtype=torch.bool, device=a.device).tril()
    return (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(~lower, -torch.inf).exp()


def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int, state: Tensor | None = None):
    """x [b, l, g·r, p], dt [b, l, g·r] f32, A [g·r] f32 and negative, B and C [b, l, g, n], state [b, g·r, p, n].

    Returns y like x, and the state after the last token. Any l will do: the rest of the last chunk is filled with
    dt = 0, which leaves the state alone.
    """
    b, length, heads, p = x.shape
    g, n = B.shape[2:]
    r = heads // g
    q = min(chunk, length)
    if pad := -length % q:
        x, B, C = (F.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x, B, C))
        dt = F.pad(dt, (0, 0, 0, pad))
    c = x.shape[1] // q

    a = (dt * A).view(b, c, q, g, r).permute(0, 1, 3, 4, 2)  # [b, c, g, r, q], f32
    total = a.cumsum(-1)
    u = (x * dt.unsqueeze(-1).to(x.dtype)).view(b, c, q, g, r, p).permute(0, 1, 3, 4, 2, 5)  # [b, c, g, r, q, p]
    B = B.view(b, c, q, g, n).transpose(2, 3)  # [b, c, g, q, n]
    C = C.view(b, c, q, g, n).transpose(2, 3)

    # Within a chunk: y_i = sum over j <= i of (C_i · B_j) decay(i, j) u_j
    scores = (C @ B.transpose(-1, -2)).unsqueeze(3) * decays(a)  # [b, c, g, r, q, q]
    y = scores.to(u.dtype) @ u

    # What each chunk adds to the state, as if it began with none: [b, c, g, r·p, n]
    to_end = (total[..., -1:] - total).exp().unsqueeze(-1).to(u.dtype)
    added = (u * to_end).transpose(-1, -2).reshape(b, c, g, r * p, q) @ B

    # The state at the start of each chunk: what the chunks before it added, decayed on the way.
    last = total[..., -1].permute(0, 2, 3, 1)  # [b, g, r, c]
    between = decays(last).to(added.dtype)
    added = added.view(b, c, g, r, p * n).permute(0, 2, 3, 1, 4)
    start = F.pad(between[..., :-1, :], (0, 0, 1, 0)) @ added  # [b, g, r, c, p·n]
    end = between[..., -1:, :] @ added
    if state is not None:
        given = state.reshape(b, g, r, 1, p * n).to(added.dtype)
        since = last.cumsum(-1).exp().unsqueeze(-1).to(added.dtype)
        start = start + F.pad(since[..., :-1, :], (0, 0, 1, 0), value=1.0) * given
        end = end + since[..., -1:, :] * given

    # What the state at the start of the chunk gives: y_i += exp(total_i) S C_i
    start = start.permute(0, 3, 1, 2, 4).reshape(b, c, g, r * p, n)
    carried = (C @ start.transpose(-1, -2)).view(b, c, g, q, r, p).transpose(3, 4)
    y = y + carried * total.exp().unsqueeze(-1).to(y.dtype)
    y = y.permute(0, 1, 4, 2, 3, 5).reshape(b, c * q, heads, p)[:, :length]
    return y, end.reshape(b, heads, p, n)
