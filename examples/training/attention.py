"""The selective-attention layer: a gate picks the tokens that attend, in a sliding window; then a SwiGLU for all."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bound import bucket
from config import SELECTIVE, Config
from norm import RMSNorm


@dataclass
class AttentionState:
    k: Tensor  # [b, kv heads, up to window, head_dim]
    v: Tensor
    position: int  # tokens seen
    credit: list[int] | None  # of the token bucket, per sequence


@dataclass
class Gates:
    """Decisions of one layer. In training `mask` carries the straight-through gradient."""

    mask: Tensor  # [b, l], 1 is selected
    alpha: Tensor  # [b, l]
    margin: Tensor  # [b, l], s1 - s0


def straight_through(scores: Tensor, noise: Tensor) -> Tensor:
    """Hard decisions of Gumbel-softmax at temperature 1, with the gradient of the soft ones. scores [..., 2].

    `noise` scales the Gumbel noise. It has to be annealed to 0: with noise to the end a gate can meet its budget with
    every token at the same probability, and then selects nothing where there is no noise, at inference.
    """
    uniform = torch.rand_like(scores).clamp(1e-6, 1 - 1e-6)
    gumbel = -torch.log(-torch.log(uniform))
    noisy = scores + noise * gumbel
    soft = torch.sigmoid(noisy[..., 1] - noisy[..., 0])
    hard = (noisy[..., 1] > noisy[..., 0]).to(soft.dtype)
    return hard + soft - soft.detach()


def rotary(x: Tensor, start: int, theta: float) -> Tensor:
    """Rotate-half; x [b, heads, l, head_dim], whose first token is number `start` of the text."""
    half = x.shape[-1] // 2
    position = torch.arange(start, start + x.shape[2], device=x.device, dtype=torch.float64)
    angle = position[:, None] / theta ** (torch.arange(half, device=x.device, dtype=torch.float64) / half)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Heads(nn.Module):
    """Sliding-window attention. Queries of tokens that are not selected are computed too, and thrown away by the caller."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        d = config.hidden_size
        queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(d, queries, bias=False)
        self.k_proj = nn.Linear(d, keys, bias=False)
        self.v_proj = nn.Linear(d, keys, bias=False)
        self.o_proj = nn.Linear(queries, d, bias=False)

    def forward(self, x: Tensor, state: AttentionState | None) -> tuple[Tensor, Tensor, Tensor]:
        """x [b, l, d]; returns the result like x, and the keys and values that the next tokens can see."""
        c = self.config
        length = x.shape[1]
        q = self.q_proj(x).unflatten(-1, (c.num_heads, c.head_dim)).transpose(1, 2)
        k = self.k_proj(x).unflatten(-1, (c.num_key_value_heads, c.head_dim)).transpose(1, 2)
        v = self.v_proj(x).unflatten(-1, (c.num_key_value_heads, c.head_dim)).transpose(1, 2)
        if c.rope_theta is not None:
            start = 0 if state is None else state.position
            q, k = rotary(q, start, c.rope_theta), rotary(k, start, c.rope_theta)
        if state is not None:
            k, v = torch.cat([state.k.to(k.dtype), k], 2), torch.cat([state.v.to(v.dtype), v], 2)
        keys = k.shape[2]
        i = torch.arange(keys - length, keys, device=x.device).unsqueeze(1)
        j = torch.arange(keys, device=x.device)
        visible = (j <= i) & (j > i - c.window)
        groups = c.num_heads // c.num_key_value_heads
        out = F.scaled_dot_product_attention(
            q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), attn_mask=visible
        )
        seen = min(keys, c.window)
        return self.o_proj(out.transpose(1, 2).flatten(-2)), k[:, :, keys - seen :], v[:, :, keys - seen :]


class SwiGLU(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        d, f = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(d, f, bias=False)
        self.up_proj = nn.Linear(d, f, bias=False)
        self.down_proj = nn.Linear(f, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Attention(nn.Module):
    """Selective, or full where a comparison asks for it: then every token attends and the result is added."""

    def __init__(self, config: Config, kind: str):
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.selective = kind == SELECTIVE
        if self.selective:
            self.gate = nn.Linear(config.hidden_size, 2)
            nn.init.zeros_(self.gate.bias)
            with torch.no_grad():  # start near the budget
                self.gate.bias[1] = -1.2
        self.attn = Heads(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, h: Tensor, state: AttentionState | None, noise: Tensor | None, bound: tuple[float, float] | None
                ) -> tuple[Tensor, AttentionState, Gates | None]:
        x = self.norm(h)
        attended, k, v = self.attn(x, state)
        gates, credit = None, None
        if self.selective:
            # f32 without autocast: the decision is hard, so rounding must not make it.
            with torch.autocast(x.device.type, enabled=False):
                scores = F.linear(x, self.gate.weight, self.gate.bias)
            margin = scores[..., 1] - scores[..., 0]
            alpha = torch.sigmoid(margin)
            if noise is not None:
                mask = straight_through(scores, noise)
            else:
                mask = (margin > 0).to(alpha.dtype)
            if bound is not None:
                mask, credit = bucket(mask, None if state is None else state.credit, *bound)
            gates = Gates(mask, alpha, margin)
            weight = (mask * alpha).unsqueeze(-1)
            h = h + weight * (attended.float() - h)
        else:
            h = h + attended
        h = h + self.mlp(self.mlp_norm(h))
        position = x.shape[1] + (0 if state is None else state.position)
        return h, AttentionState(k, v, position, credit), gates
