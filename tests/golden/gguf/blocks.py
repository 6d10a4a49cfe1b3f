#!/usr/bin/env python3
"""Blocks of random bits, and the numbers that the gguf package reads in them.

    blocks.py OUT.json
"""
import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, quants
from gguf import GGMLQuantizationType as Q

# Where the f16 factors of a block are: they must be finite.
FACTORS = {Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_K: [0, 2], Q.Q6_K: [208]}

r = np.random.Generator(np.random.PCG64(3))
out = {}
for kind, places in FACTORS.items():
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = r.integers(0, 256, (512 // elements, size), dtype=np.uint8)
    for place in places:
        scale = (r.uniform(0.001, 0.02, len(blocks)) * r.choice([-1, 1], len(blocks))).astype(np.float16)
        blocks[:, place:place + 2] = scale.view(np.uint8).reshape(-1, 2)
    values = quants.dequantize(blocks.reshape(2, -1), kind).astype("<f4")
    out[kind.name] = {"kind": int(kind), "bytes": blocks.tobytes().hex(), "values": values.tobytes().hex()}
with open(sys.argv[1], "w") as f:
    f.write(json.dumps(out, indent=1) + "\n")
