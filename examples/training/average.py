"""Averages two models, of which one went on from the other: between them lie models with some of the virtues of both.

    python average.py FIRST SECOND --share 0.7 --out MODEL        0.3 of the first and 0.7 of the second
"""

import argparse
import shutil
from pathlib import Path

import torch

import checkpoint


@torch.no_grad()
def average(first: Path, second: Path, share: float, out: Path) -> None:
    model, other = checkpoint.load(first), checkpoint.load(second).state_dict()
    model.load_state_dict({name: torch.lerp(value, other[name], share) for name, value in model.state_dict().items()})
    checkpoint.save(model, out)
    shutil.copy(first / "tokenizer.json", out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    average(options.first, options.second, options.share, options.out)


if __name__ == "__main__":
    main()
