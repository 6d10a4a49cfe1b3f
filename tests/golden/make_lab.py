#!/usr/bin/env python3
"""Golden numbers of the small models that the browser's validation draws, in float64 numpy.

usage: make_lab.py MODELS_DIR > crates/wasm-lab/src/golden.json        needs: requirements.txt

`cargo run -p taipan-wasm-lab --example draw_models -- MODELS_DIR` writes the models.
"""
import json, pathlib, sys
import numpy as np
from safetensors.numpy import load_file
from make_taipan_fixtures import Taipan

ROWS = [0, 1, 23, 24, 47, 69]  # the first, both sides of the window's edge, the last

def short(numbers): return [float(f"{n:.6g}") for n in numbers]

cases = []
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    case = json.loads((folder / "case.json").read_text())
    model = Taipan(json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"))
    budget = dict(zip(("attention_budget", "burst"), case["bound"])) if case["bound"] else None
    logits, mask, alpha, greedy, margin, top2 = model.run(case["prompt"], budget, case["made"])
    assert margin > 1e-3 and top2 > 1e-2, f"{folder.name}: a decision hangs by a hair: {margin}, {top2}"
    cases.append({"name": folder.name, "logits": [[row, short(logits[row])] for row in ROWS], "alpha": [short(layer) for layer in alpha],
                  "mask": [[int(m) for m in layer] for layer in mask], "greedy": greedy})
print("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]")
