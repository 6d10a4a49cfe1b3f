"""Reading and writing models as the runtime stores them: config.json and model.safetensors, matrices f16, the rest f32."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from config import Config
from model import Taipan


def stored(model: Taipan) -> dict[str, Tensor]:
    """The tensors of the file. The gate stays f32: its decisions are hard, and it is small."""
    tensors = {}
    for name, value in model.state_dict().items():
        matrix = value.dim() == 2 and not name.endswith("gate.weight")
        tensors[name] = value.detach().cpu().to(torch.float16 if matrix else torch.float32).contiguous()
    return tensors


def save(model: Taipan, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored(model), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_json(), indent=1) + "\n")


def load(folder: Path) -> Taipan:
    """The model in f32, of the weights as they are stored."""
    model = Taipan(Config.load(folder))
    tensors = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(tensors)
    return model.eval()
