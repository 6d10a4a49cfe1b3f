"""Perplexity by context length, of all models in a folder: by_context.csv and by_context.svg.

    python plot.py OUT        reads OUT/*/books*.json, which evaluate.py --books writes
"""

import argparse
import json
import math
from pathlib import Path

COLOURS = ["#1b6ca8", "#c8553d", "#3a7d44", "#7d4e9e", "#8a6d00"]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 760, 420, 70, 20, 50, 180


def curves(out: Path) -> dict[str, dict[int, float]]:
    found = {}
    for file in sorted(out.glob("*/books*.json")):
        name = file.parent.name + (", bounded" if "bound" in file.stem else "")
        found[name] = {int(n): p for n, p in json.loads(file.read_text())["by_context"].items()}
    if not found:
        raise SystemExit(f"{out}: expected */books.json, found none; evaluate.py --books writes it")
    return found


def csv(found: dict[str, dict[int, float]]) -> str:
    lengths = sorted({n for curve in found.values() for n in curve})
    rows = [",".join(["context", *(f'"{name}"' for name in found)])]
    rows += [",".join([str(n), *(str(curve.get(n, "")) for curve in found.values())]) for n in lengths]
    return "\n".join(rows) + "\n"


def svg(found: dict[str, dict[int, float]]) -> str:
    lengths = sorted({n for curve in found.values() for n in curve})
    values = [p for curve in found.values() for p in curve.values()]
    low, high = math.floor(min(values)), math.ceil(max(values))
    first, last = math.log2(lengths[0]), math.log2(lengths[-1])
    x = lambda n: LEFT + (WIDTH - LEFT - LEGEND) * (math.log2(n) - first) / max(1e-9, last - first)
    y = lambda p: TOP + (HEIGHT - TOP - BOTTOM) * (high - p) / max(1e-9, high - low)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for n in lengths:
        label = n if n < 1024 else f"{n // 1024}k"
        parts.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    step = max(1, round((high - low) / 8))
    for p in range(low, high + 1, step):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - LEGEND}" y1="{y(p):.1f}" y2="{y(p):.1f}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 8}" y="{y(p) + 4:.1f}" text-anchor="end">{p}</text>')
    for i, (name, curve) in enumerate(found.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(f"{x(n):.1f},{y(p):.1f}" for n, p in sorted(curve.items()))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{WIDTH - LEGEND + 10}" y="{TOP + 16 + 18 * i}" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - LEGEND) / 2}" y="{HEIGHT - 10}" text-anchor="middle">context, tokens</text>'
                 f'<text x="16" y="{HEIGHT / 2}" transform="rotate(-90 16 {HEIGHT / 2})" text-anchor="middle">perplexity</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    found = curves(out)
    (out / "by_context.csv").write_text(csv(found))
    (out / "by_context.svg").write_text(svg(found))


if __name__ == "__main__":
    main()
