"""The Mamba-2 mixer: projection, short convolution, state-space recurrence, gated norm, projection."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config
from norm import RMSNorm
from ssd import ssd


@dataclass
class Mamba2State:
    conv: Tensor  # [b, d_conv - 1, channels], the newest inputs of the convolution
    ssm: Tensor  # [b, heads, p, n]


class DepthwiseConv(nn.Module):
    """Parameters of the causal convolution, with the names and shapes of nn.Conv1d."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x [b, width - 1 + l, channels] to [b, l, channels]: a few shifted products, which the compiler fuses."""
        width = self.weight.shape[-1]
        length = x.shape[1] - width + 1
        taps = self.weight[:, 0].to(x.dtype)
        return sum(x[:, k : k + length] * taps[:, k] for k in range(width)) + self.bias.to(x.dtype)


class Mamba2(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        d, heads = config.hidden_size, config.mamba_heads
        self.in_proj = nn.Linear(d, config.d_inner + config.conv_channels + heads, bias=False)
        self.conv1d = DepthwiseConv(config.conv_channels, config.d_conv)
        # Time steps start between 0.001 and 0.1, evenly in their logarithm; the bias is the inverse of softplus.
        dt = torch.exp(torch.rand(heads) * math.log(100) + math.log(1e-3))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = RMSNorm(config.d_inner, config.norm_eps, config.n_groups)
        self.out_proj = nn.Linear(config.d_inner, d, bias=False)

    def forward(self, u: Tensor, state: Mamba2State | None) -> tuple[Tensor, Mamba2State]:
        c = self.config
        b, length, _ = u.shape
        gn = c.n_groups * c.d_state
        z, xBC, dt = self.in_proj(u).split([c.d_inner, c.conv_channels, c.mamba_heads], -1)

        if state is None:
            xBC = F.pad(xBC, (0, 0, c.d_conv - 1, 0))
        else:
            xBC = torch.cat([state.conv.to(xBC.dtype), xBC], 1)
        newest = xBC[:, xBC.shape[1] - (c.d_conv - 1) :]
        x, B, C = F.silu(self.conv1d(xBC)).split([c.d_inner, gn, gn], -1)

        x = x.reshape(b, length, c.mamba_heads, c.mamba_head_dim)
        B, C = (t.reshape(b, length, c.n_groups, c.d_state) for t in (B, C))
        low, high = c.time_step_limit
        dt = F.softplus(dt.float() + self.dt_bias).clamp(low, high)
        y, ssm = ssd(x, dt, -self.A_log.exp(), B, C, c.chunk_size, None if state is None else state.ssm)
        y = y + x * self.D.to(x.dtype).unsqueeze(-1)
        y = self.norm(y.reshape(b, length, c.d_inner).float() * F.silu(z.float()))
        return self.out_proj(y), Mamba2State(newest, ssm)
