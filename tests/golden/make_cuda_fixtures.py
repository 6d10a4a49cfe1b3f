"""Golden files of state-spaces' own CUDA and Triton kernels, for tests/tests/cuda.rs.

    python3 crates/bench/peer/build.py --sources DIR --into SITE        # once; see there
    PYTHONPATH=SITE python3 tests/golden/make_cuda_fixtures.py --out tests/golden/cuda

Needs an NVIDIA card. Runs `mamba_chunk_scan_combined`, `selective_state_update`, `causal_conv1d_fn`, `causal_conv1d_update` and the
gated RMSNorm of the packages mamba-ssm and causal-conv1d on seeded float32 inputs, and writes inputs and outputs as one safetensors
file a case. Each is also computed in float64, plainly and token by token, and how far the kernels are from that stands in the file's
metadata and on standard output; a case further off than the bound of the test is an error.

Triton's matrix products of float32 run in TF32 unless told otherwise, and are then off by up to seven times the bound (on an NVIDIA
H100); `--precision tf32` shows that and writes nothing.
"""

import argparse
import json
import os
import sys
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, help="folder for the files")
parser.add_argument("--seed", type=int, default=2024)
parser.add_argument("--precision", choices=["ieee", "tf32"], default="ieee", help="of Triton's float32 matrix products")
options = parser.parse_args()
if (options.out is None) == (options.precision == "ieee"):
    parser.error("--out DIR goes with --precision ieee, the default, and with that alone")

# Both are read when the kernels are defined. Without autotuning a run takes seconds, and two runs agree to the bit.
os.environ["TRITON_F32_DEFAULT"] = options.precision
os.environ["MAMBA_DETERMINISTIC"] = "1"

import causal_conv1d  # noqa: E402
import mamba_ssm  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402
from causal_conv1d import causal_conv1d_fn, causal_conv1d_update  # noqa: E402
from einops import repeat  # noqa: E402
from mamba_ssm.ops.triton.layernorm_gated import rmsnorm_fn  # noqa: E402
from mamba_ssm.ops.triton.selective_state_update import selective_state_update  # noqa: E402
from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

BOUND = 1e-3  # |kernel − float64| ≤ BOUND · max(1, |float64|), as in tests/tests/cuda.rs
EPS = 1e-5
DEVICE = "cuda"


def silu(x):
    return x / (1 + np.exp(-x))


def step_size(dt, bias, limit):
    return np.clip(np.logaddexp(0, dt + bias), *limit)


# The formulas, in float64.


def scan(x, dt, A, B, C, D, dt_bias, state, z=None, limit=(0.0, np.inf)):
    """The recurrence: S ← exp(dt·A)·S + dt·x ⊗ B, y = S·C + D·x, y·silu(z). Shapes as in the package, without the batch."""
    state, outs = state.copy(), []
    share = x.shape[1] // B.shape[1]
    for t in range(x.shape[0]):
        step = step_size(dt[t], dt_bias, limit)[:, None, None]
        b, c = (np.repeat(part[t], share, axis=0)[:, None, :] for part in (B, C))
        state = np.exp(step * A[:, None, None]) * state + step * x[t][:, :, None] * b
        out = (state * c).sum(-1) + D[:, None] * x[t]
        outs.append(out if z is None else out * silu(z[t]))
    return np.stack(outs), state


def conv(raw, weight, bias, before):
    """Depthwise, causal, then SiLU; `before` are the raw rows that precede the first, (channels, taps − 1)."""
    taps = weight.shape[1]
    rows = np.concatenate([before.T, raw])
    outs = [bias + (rows[t : t + taps].T * weight).sum(-1) for t in range(raw.shape[0])]
    return silu(np.stack(outs)), rows[len(rows) - (taps - 1) :].T


def gated_norm(x, z, weight, group, before_gate):
    grouped = (x if before_gate else x * silu(z)).reshape(x.shape[0], -1, group)
    normed = grouped / np.sqrt((grouped**2).mean(-1, keepdims=True) + EPS)
    out = normed.reshape(x.shape) * weight
    return out * silu(z) if before_gate else out


# The cases: seeded inputs of the size a trained model has, the call, the same in float64.


class Case:
    def __init__(self, name, number):
        self.name, self.rng = name, np.random.default_rng([options.seed, number])
        self.inputs, self.outputs, self.truth, self.call = {}, {}, {}, {}

    def normal(self, name, *shape, scale=1.0, at=0.0):
        return self.put(name, at + scale * self.rng.standard_normal(shape))

    def uniform(self, name, low, high, *shape):
        return self.put(name, self.rng.uniform(low, high, shape))

    def put(self, name, value):
        self.inputs[name] = np.ascontiguousarray(value, dtype=np.float32)
        return self.inputs[name]

    def cuda(self, name):
        return torch.tensor(self.inputs[name], device=DEVICE)

    def f64(self, *names):
        return [self.inputs[name].astype(np.float64) for name in names]

    def keep(self, **outputs):
        for name, (found, truth) in outputs.items():
            self.outputs[name] = np.ascontiguousarray(found.detach().float().cpu().numpy())
            self.truth[name] = truth

    def errors(self):
        """Largest |kernel − float64| / max(1, |float64|) of each output; infinite where shapes differ or a value is no number."""
        errors = {}
        for name, truth in self.truth.items():
            found = self.outputs[name]
            fits = found.shape == truth.shape and np.isfinite(found).all()
            errors[name] = float((np.abs(found - truth) / np.maximum(1, np.abs(truth))).max()) if fits else float("inf")
        return errors


def ssm_inputs(case, tokens, heads, head_dim, groups, d_state):
    case.normal("x", tokens, heads, head_dim)
    case.normal("dt", tokens, heads, scale=0.5)
    case.normal("B", tokens, groups, d_state, scale=0.5)
    case.normal("C", tokens, groups, d_state, scale=0.5)
    per_head(case, heads)
    case.normal("initial_states", heads, head_dim, d_state, scale=0.5)


def per_head(case, heads):
    # Steps from 0.02 to 0.4, decays from e^-0.02 to e^-6: heads that remember and heads that forget.
    case.uniform("dt_bias", -4.0, -0.7, heads)
    case.put("A", -np.exp(case.rng.uniform(0.0, np.log(16.0), heads)))
    case.normal("D", heads, at=1.0, scale=0.3)


def chunk_scan_case(case, tokens, heads, head_dim, groups, d_state, chunk_size, gate, limit):
    ssm_inputs(case, tokens, heads, head_dim, groups, d_state)
    if gate:
        case.normal("z", tokens, heads, head_dim)
    case.call = {"function": "mamba_chunk_scan_combined", "chunk_size": chunk_size, "dt_softplus": True, "dt_limit": list(limit) if limit else None}
    first = lambda name: case.cuda(name)[None]
    out, final = mamba_chunk_scan_combined(
        first("x"),
        first("dt"),
        case.cuda("A"),
        first("B"),
        first("C"),
        chunk_size,
        D=case.cuda("D"),
        z=first("z") if gate else None,
        dt_bias=case.cuda("dt_bias"),
        initial_states=first("initial_states"),
        dt_softplus=True,
        return_final_states=True,
        **({"dt_limit": limit} if limit else {}),
    )
    names = ["x", "dt", "A", "B", "C", "D", "dt_bias", "initial_states"] + ["z"] * gate
    true_out, true_final = scan(*case.f64(*names), limit=limit or (0.0, np.inf))
    case.keep(out=(out[0], true_out), final_states=(final[0], true_final))


def decode_case(case, steps, heads, head_dim, groups, d_state, taps, gate):
    """causal_conv1d_update, then selective_state_update, for a few tokens, as Mamba2.step calls them."""
    inner, channels = heads * head_dim, heads * head_dim + 2 * groups * d_state
    case.normal("xBC", steps, channels)
    case.normal("dt", steps, heads, scale=0.5)
    case.normal("conv_weight", channels, taps, scale=0.5)
    case.normal("conv_bias", channels, scale=0.2)
    per_head(case, heads)
    case.normal("conv_state", channels, taps)
    case.normal("ssm_state", heads, head_dim, d_state, scale=0.5)
    if gate:
        case.normal("z", steps, heads, head_dim)
    case.call = {"function": "causal_conv1d_update + selective_state_update", "activation": "silu", "dt_softplus": True}
    conv_state, ssm_state = case.cuda("conv_state")[None], case.cuda("ssm_state")[None]
    # Views that repeat a head's number without copying: the package's kernel has a faster form for them, which Mamba2.step uses.
    A = repeat(case.cuda("A"), "h -> h p n", p=head_dim, n=d_state)
    D, dt_bias = (repeat(case.cuda(name), "h -> h p", p=head_dim) for name in ("D", "dt_bias"))
    convolved, outs = [], []
    for t in range(steps):
        row = lambda name: case.cuda(name)[t : t + 1]
        xBC = causal_conv1d_update(row("xBC"), conv_state, case.cuda("conv_weight"), case.cuda("conv_bias"), "silu")
        x, B, C = torch.split(xBC, [inner, groups * d_state, groups * d_state], dim=-1)
        dt = repeat(row("dt"), "b h -> b h p", p=head_dim)
        shaped = [part.reshape(1, groups, d_state) for part in (B, C)]
        z = row("z") if gate else None
        out = selective_state_update(ssm_state, x.reshape(1, heads, head_dim), dt, A, *shaped, D, z=z, dt_bias=dt_bias, dt_softplus=True)
        convolved.append(xBC[0].clone())
        outs.append(out[0].clone())

    raw, weight, bias, before = case.f64("xBC", "conv_weight", "conv_bias", "conv_state")
    true_conv, _ = conv(raw, weight, bias, before[:, 1:])
    x, B, C = np.split(true_conv, [inner, inner + groups * d_state], axis=1)
    dt, A, D, dt_bias, state = case.f64("dt", "A", "D", "dt_bias", "ssm_state")
    z = case.f64("z")[0] if gate else None
    grouped = [part.reshape(steps, groups, d_state) for part in (B, C)]
    true_out, true_state = scan(x.reshape(steps, heads, head_dim), dt, A, *grouped, D, dt_bias, state, z)
    rows = np.concatenate([before.T, raw])[-taps:].T
    case.keep(
        convolved=(torch.stack(convolved), true_conv),
        out=(torch.stack(outs), true_out),
        final_conv_state=(conv_state[0], rows),
        final_ssm_state=(ssm_state[0], true_state),
    )


def conv_case(case, tokens, channels, taps):
    case.normal("xBC", tokens, channels)
    case.normal("conv_weight", channels, taps, scale=0.5)
    case.normal("conv_bias", channels, scale=0.2)
    case.normal("initial_states", channels, taps - 1)
    case.call = {"function": "causal_conv1d_fn", "activation": "silu"}
    # (batch, channels, tokens) over rows of channels: the layout that Mamba-2 has, and the one that returns final states.
    raw = case.cuda("xBC")[None].transpose(1, 2)
    before = case.cuda("initial_states").t().contiguous().t()[None]
    out, final = causal_conv1d_fn(
        raw, case.cuda("conv_weight"), case.cuda("conv_bias"), initial_states=before, return_final_states=True, activation="silu"
    )
    true_out, true_final = conv(*case.f64("xBC", "conv_weight", "conv_bias", "initial_states"))
    case.keep(out=(out[0].t(), true_out), final_states=(final[0], true_final))


def norm_case(case, tokens, cols, group_size, norm_before_gate):
    case.normal("x", tokens, cols)
    case.normal("z", tokens, cols)
    case.normal("weight", cols, at=1.0, scale=0.3)
    case.call = {"function": "rmsnorm_fn", "eps": EPS, "group_size": group_size, "norm_before_gate": norm_before_gate}
    out = rmsnorm_fn(
        case.cuda("x"), case.cuda("weight"), None, z=case.cuda("z"), eps=EPS, group_size=group_size, norm_before_gate=norm_before_gate
    )
    case.keep(out=(out, gated_norm(*case.f64("x", "z", "weight"), group_size, norm_before_gate)))


# Lengths are odd, so that the last chunk is cut short; one case has a chunk longer than ours, which computes the same.
CASES = {
    "chunk_scan_1_group": (chunk_scan_case, dict(tokens=131, heads=2, head_dim=64, groups=1, d_state=128, chunk_size=64, gate=False, limit=None)),
    "chunk_scan_2_groups": (chunk_scan_case, dict(tokens=149, heads=4, head_dim=32, groups=2, d_state=64, chunk_size=128, gate=True, limit=(0.03, 0.3))),
    "decode_1_group": (decode_case, dict(steps=3, heads=2, head_dim=64, groups=1, d_state=128, taps=4, gate=False)),
    "decode_2_groups": (decode_case, dict(steps=5, heads=4, head_dim=32, groups=2, d_state=64, taps=4, gate=True)),
    "conv_4_taps": (conv_case, dict(tokens=37, channels=160, taps=4)),
    "conv_2_taps": (conv_case, dict(tokens=9, channels=64, taps=2)),
    "norm_after_gate": (norm_case, dict(tokens=5, cols=384, group_size=384, norm_before_gate=False)),
    "norm_after_gate_4_groups": (norm_case, dict(tokens=5, cols=384, group_size=96, norm_before_gate=False)),
    "norm_before_gate_2_groups": (norm_case, dict(tokens=5, cols=384, group_size=192, norm_before_gate=True)),
}


def main() -> int:
    made_with = {
        "mamba_ssm": mamba_ssm.__version__,
        "causal_conv1d": causal_conv1d.__version__,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "device": torch.cuda.get_device_name(),
        "seed": str(options.seed),
        "precision": options.precision,
    }
    print(json.dumps(made_with))
    failed = False
    for number, (name, (build, sizes)) in enumerate(CASES.items()):
        case = Case(name, number)
        try:
            with torch.no_grad():
                build(case, **sizes)
            errors = case.errors()
        except Exception as failure:  # one that fails keeps the others from nothing
            print(json.dumps({"case": name, "failed": f"{type(failure).__name__}: {failure}"[:800]}))
            failed = True
            continue
        print(json.dumps({"case": name, "error": errors}))
        if options.out is None:
            continue
        if max(errors.values()) > BOUND:
            print(f"{name}: further than {BOUND} from float64; not written", file=sys.stderr)
            failed = True
            continue
        options.out.mkdir(parents=True, exist_ok=True)
        metadata = {**made_with, "call": json.dumps(case.call), "error": json.dumps(errors)}
        tensors = {**{f"in.{key}": value for key, value in case.inputs.items()}, **{f"out.{key}": value for key, value in case.outputs.items()}}
        save_file(tensors, options.out / f"{name}.safetensors", metadata)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
