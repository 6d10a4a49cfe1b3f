"""Taipan: embedding, Mamba-2 blocks with a selective-attention layer after every few, norm, head."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import Attention, AttentionState, Gates
from config import MAMBA2, Config
from mamba2 import Mamba2, Mamba2State
from norm import RMSNorm

State = list[Mamba2State | AttentionState]


@dataclass
class Output:
    """What a forward pass gives."""

    logits: Tensor  # [b, l, vocab]
    gates: list[Gates]  # of each selective-attention layer
    state: State | None = None


class MambaLayer(nn.Module):
    """h + Mamba2(RMSNorm(h))"""

    def __init__(self, config: Config):
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mixer = Mamba2(config)

    def forward(self, h: Tensor, state: Mamba2State | None) -> tuple[Tensor, Mamba2State]:
        out, state = self.mixer(self.norm(h), state)
        return h + out, state


class Taipan(nn.Module):
    """Tensor names are those of the runtime's checkpoints."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            MambaLayer(config) if kind == MAMBA2 else Attention(config, kind) for kind in config.layer_types
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Small normal matrices; those that write to the residual stream smaller still, by the number of layers."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                writes = name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight"))
                std = 0.02 / len(self.layers) ** 0.5 if writes else 0.02
                # The gate starts with margins of about 1, so that its decisions differ from token to token.
                nn.init.normal_(parameter, std=0.05 if name.endswith("gate.weight") else std)

    def forward(self, ids: Tensor, state: State | None = None, keep_state: bool = False, noise: Tensor | None = None,
                bound: tuple[float, float] | None = None) -> Output:
        """ids [b, l]. `noise` scales the Gumbel noise of the gates in training; `bound` is (C, burst) of the token bucket."""
        h = self.embedding(ids).float()  # the residual stream is f32, whatever autocast does around it
        gates, after = [], []
        for i, layer in enumerate(self.layers):
            before = None if state is None else state[i]
            if isinstance(layer, MambaLayer):
                h, s = layer(h, before)
            else:
                h, s, g = layer(h, before, noise, bound)
                if g is not None:
                    gates.append(g)
            after.append(s if keep_state else None)
        head = self.embedding.weight if self.config.tie_word_embeddings else self.lm_head.weight
        return Output(F.linear(self.norm(h), head), gates, after if keep_state else None)
