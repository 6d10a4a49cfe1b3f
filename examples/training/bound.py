"""The hard bound on attention at inference: a causal token bucket, in integers as the runtime counts."""

import math

import numpy as np
import torch
from torch import Tensor

ONE = 65536


def bucket(mask: Tensor, credit: list[int] | None, share: float, burst: float) -> tuple[Tensor, list[int]]:
    """Refuses selections beyond `share`·L + `burst` of any L tokens. mask [b, l]; credit per sequence, or None at the start."""
    gain, most = math.floor(share * ONE), math.floor(burst * ONE)
    wanted = mask.detach().cpu().numpy() > 0.5
    left = np.full(len(wanted), most) if credit is None else np.array(credit)
    allowed = np.zeros_like(wanted)
    for t in range(wanted.shape[1]):
        left = np.minimum(most, left + gain)
        allowed[:, t] = wanted[:, t] & (left >= ONE)
        left -= ONE * allowed[:, t]
    return torch.from_numpy(allowed).to(mask), left.tolist()
