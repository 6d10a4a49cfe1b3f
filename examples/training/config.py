"""The shape of a model, as `config.json` of the runtime holds it."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAMBA2 = "mamba2"
SELECTIVE = "selective_attention"
# Only for comparisons: the same attention for every token, added to the residual stream. The runtime does not load it.
FULL = "full_attention"


@dataclass
class Config:
    """Names and meanings are those of `config.json`; the groups `mamba2` and `selective_attention` are flattened."""

    vocab_size: int = 4096
    hidden_size: int = 256
    layer_types: list[str] = field(default_factory=lambda: ([MAMBA2] * 6 + [SELECTIVE]) * 2)
    tie_word_embeddings: bool = True
    rms_norm_eps: float = 1e-5
    # Mamba-2
    d_state: int = 128
    d_conv: int = 4
    expand: int = 2
    mamba_head_dim: int = 64
    n_groups: int = 1
    chunk_size: int = 64
    time_step_limit: tuple[float, float | None] = (0.0, None)
    norm_eps: float = 1e-5
    # Selective attention
    num_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 64
    window: int = 512
    intermediate_size: int = 704
    rope_theta: float | None = None
    attention_budget: float = 0.15
    # Text
    eos_token_id: int = 0
    max_trained_length: int = 2048

    @property
    def d_inner(self) -> int:
        return self.expand * self.hidden_size

    @property
    def mamba_heads(self) -> int:
        return self.d_inner // self.mamba_head_dim

    @property
    def conv_channels(self) -> int:
        return self.d_inner + 2 * self.n_groups * self.d_state

    def to_json(self) -> dict[str, Any]:
        return {
            "model_type": "taipan",
            "architectures": ["TaipanForCausalLM"],
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "tie_word_embeddings": self.tie_word_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "layer_types": self.layer_types,
            "mamba2": {
                "d_state": self.d_state,
                "d_conv": self.d_conv,
                "expand": self.expand,
                "head_dim": self.mamba_head_dim,
                "n_groups": self.n_groups,
                "chunk_size": self.chunk_size,
                "conv_bias": True,
                "proj_bias": False,
                "time_step_limit": list(self.time_step_limit),
                "norm_eps": self.norm_eps,
            },
            "selective_attention": {
                "num_heads": self.num_heads,
                "num_key_value_heads": self.num_key_value_heads,
                "head_dim": self.head_dim,
                "window": self.window,
                "intermediate_size": self.intermediate_size,
                "rope_theta": self.rope_theta,
                "attention_budget": self.attention_budget,
            },
            "bos_token_id": self.eos_token_id,
            "eos_token_id": self.eos_token_id,
            "max_trained_length": self.max_trained_length,
        }

    @classmethod
    def from_json(cls, json_: dict[str, Any]) -> "Config":
        mamba, attention = json_["mamba2"], json_["selective_attention"]
        if not mamba.get("conv_bias", True) or mamba.get("proj_bias", False):
            raise ValueError("config.json: the trainer knows conv_bias true and proj_bias false only")
        low, high = mamba.get("time_step_limit", (0.0, None))
        return cls(
            vocab_size=json_["vocab_size"],
            hidden_size=json_["hidden_size"],
            layer_types=json_["layer_types"],
            tie_word_embeddings=json_.get("tie_word_embeddings", True),
            rms_norm_eps=json_.get("rms_norm_eps", 1e-5),
            d_state=mamba["d_state"],
            d_conv=mamba["d_conv"],
            expand=mamba["expand"],
            mamba_head_dim=mamba["head_dim"],
            n_groups=mamba["n_groups"],
            chunk_size=mamba.get("chunk_size", 256),
            time_step_limit=(low, high),
            norm_eps=mamba.get("norm_eps", 1e-5),
            num_heads=attention["num_heads"],
            num_key_value_heads=attention.get("num_key_value_heads", attention["num_heads"]),
            head_dim=attention["head_dim"],
            window=attention["window"],
            intermediate_size=attention["intermediate_size"],
            rope_theta=attention.get("rope_theta"),
            attention_budget=attention.get("attention_budget") or 0.15,
            eos_token_id=json_.get("eos_token_id") or 0,
            max_trained_length=json_.get("max_trained_length") or 2048,
        )

    @classmethod
    def load(cls, folder: Path) -> "Config":
        return cls.from_json(json.loads((folder / "config.json").read_text()))


def preset(size: str, vocab_size: int) -> Config:
    """Sizes to start from; each is the default with a few numbers changed."""
    blocks = ([MAMBA2] * 6 + [SELECTIVE]) * 2
    match size:
        case "tiny":  # seconds on a CPU, for tests
            return Config(vocab_size, 64, [MAMBA2, SELECTIVE, MAMBA2, SELECTIVE], d_state=16, mamba_head_dim=16,
                          num_heads=2, num_key_value_heads=2, head_dim=32, window=32, intermediate_size=128)
        case "small":  # the embedded model
            return Config(vocab_size, 256, blocks)
        case "medium":
            return Config(vocab_size, 512, blocks + blocks[:7], num_heads=8, num_key_value_heads=8, window=1024,
                          intermediate_size=1408)
        case "190m":
            return Config(vocab_size, 768, blocks + blocks[:7], num_heads=12, num_key_value_heads=12, window=2048,
                          intermediate_size=2048)
    raise ValueError(f"--size {size}: there are tiny, small, medium and 190m")


def without_selection(config: Config, variant: str) -> Config:
    """The models that a Taipan is compared with: `mamba` has no attention and as many parameters, `full` attends always."""
    layers, d_state = config.layer_types, config.d_state
    if variant == "full":
        layers = [FULL if kind == SELECTIVE else kind for kind in layers]
    elif variant == "mamba":
        layers, d_state = mamba_only(config)
    elif variant != "taipan":
        raise ValueError(f"--variant {variant}: there are taipan, mamba and full")
    return Config(**{**config.__dict__, "layer_types": layers, "d_state": d_state})


def mamba_only(config: Config) -> tuple[list[str], int]:
    """Layers and d_state of a pure Mamba-2 with the parameters of `config`: more layers, each with a smaller state."""
    d, heads = config.hidden_size, config.num_heads + config.num_key_value_heads
    attention = config.layer_types.count(SELECTIVE) * (2 * d * heads * config.head_dim + 3 * d * config.intermediate_size)
    mamba = d * (2 * config.d_inner + config.conv_channels + config.mamba_heads)
    more = math.ceil(attention / mamba)
    count = config.layer_types.count(MAMBA2) + more
    excess = (more * mamba - attention) / (count * 2 * d * config.n_groups)
    return [MAMBA2] * count, max(16, config.d_state - 16 * round(excess / 16))
