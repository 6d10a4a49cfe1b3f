"""The pieces of the reference: files, norms, mixer, attention. numpy and float64 only, one token after the other."""
import json
import math
import os
import struct

import numpy as np

F = np.float64


# --------------------------------------------------------------------------- files
def read_safetensors(path):
    """name -> (float64 or integer array); handles F64 F32 F16 BF16 and ints."""
    out = {}
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        body = f.read()
    for name, t in head.items():
        if name == "__metadata__":
            continue
        a, b = t["data_offsets"]
        raw, shape, ty = body[a:b], t["shape"], t["dtype"]
        if ty == "BF16":
            u = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            arr = u.view(np.float32).astype(F)
        elif ty in ("F32", "F16", "F64"):
            arr = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[ty]).astype(F)
        elif ty in ("I32", "I64"):
            arr = np.frombuffer(raw, {"I32": "<i4", "I64": "<i8"}[ty])
        else:
            raise ValueError(f"{name}: dtype {ty}")
        out[name] = arr.reshape(shape)
    return out


def load_weights(d):
    idx = os.path.join(d, "model.safetensors.index.json")
    if os.path.exists(idx):
        with open(idx) as f:
            wm = json.load(f)["weight_map"]
        w = {}
        for shard in sorted(set(wm.values())):
            part = read_safetensors(os.path.join(d, shard))
            w.update({k: v for k, v in part.items() if wm.get(k) == shard})
        assert set(w) == set(wm)
        return w
    return read_safetensors(os.path.join(d, "model.safetensors"))


def load_config(d):
    """config.json; accepts the bare literal Infinity and {"__float__": "Infinity"}."""
    def fix(v):
        if isinstance(v, dict):
            if set(v) == {"__float__"}:
                return float(v["__float__"].replace("Infinity", "inf"))
            return {k: fix(x) for k, x in v.items()}
        if isinstance(v, list):
            return [fix(x) for x in v]
        return v
    with open(os.path.join(d, "config.json")) as f:
        return fix(json.load(f))


# --------------------------------------------------------------------------- pieces
def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.logaddexp(0.0, x)


_erf = np.vectorize(math.erf)
ACT = {
    "silu": silu,
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "relu2": lambda x: np.square(np.maximum(x, 0.0)),
}


def rms(x, eps, groups=1):
    y = x.reshape(*x.shape[:-1], groups, -1)
    y = y / np.sqrt(np.mean(y * y, -1, keepdims=True) + eps)
    return y.reshape(x.shape)


def linear(x, w, b=None):
    y = x @ w.T
    return y if b is None else y + b


class Mamba2:
    """One Mamba-2 mixer, sequential form.

    mult: five factors on the z, x, B, C, dt parts of in_proj's output.
    gate: "gate_only" | "norm_after_gate" | "norm_before_gate".
    dt_limit is applied to the first `clamp_upto` positions only (what the
    reference implementations do: prefill clamps, the decode step does not).
    """

    def __init__(s, w, pre, H, P, G, N, eps, gate="norm_after_gate", dt_limit=(0.0, math.inf),
                 in_mult=1.0, mult=(1.0,) * 5, act="silu"):
        g = lambda n: w.get(pre + n)
        s.H, s.P, s.G, s.N, s.eps, s.gate = H, P, G, N, eps, gate
        s.d = H * P
        s.lim, s.in_mult, s.act = dt_limit, in_mult, ACT[act]
        s.in_w, s.in_b = g("in_proj.weight"), g("in_proj.bias")
        cw = g("conv1d.weight")
        s.conv_w, s.conv_b = cw.reshape(cw.shape[0], cw.shape[-1]), g("conv1d.bias")
        s.dt_bias, s.A, s.D = g("dt_bias"), -np.exp(g("A_log")), g("D")
        s.norm_w = g("norm.weight")
        s.out_w, s.out_b = g("out_proj.weight"), g("out_proj.bias")
        gn = G * N
        assert s.in_w.shape[0] == 2 * s.d + 2 * gn + H, (s.in_w.shape, s.d, gn, H)
        assert s.conv_w.shape[0] == s.d + 2 * gn
        s.mult = np.concatenate([np.full(n, m) for n, m in zip((s.d, s.d, gn, gn, H), mult)])

    def __call__(s, u, ctx):
        T, K = u.shape[0], s.conv_w.shape[1]
        p = linear(u * s.in_mult, s.in_w, s.in_b) * s.mult
        gn = s.G * s.N
        z, xbc, dt = np.split(p, [s.d, 2 * s.d + 2 * gn], axis=1)
        pad = np.concatenate([np.zeros((K, xbc.shape[1])), xbc])
        conv = sum(pad[k + 1:k + 1 + T] * s.conv_w[:, k] for k in range(K))
        if s.conv_b is not None:
            conv = conv + s.conv_b
        conv = s.act(conv)
        x, B, C = np.split(conv, [s.d, s.d + gn], axis=1)
        x = x.reshape(T, s.H, s.P)
        rep = s.H // s.G
        B = np.repeat(B.reshape(T, s.G, s.N), rep, axis=1)
        C = np.repeat(C.reshape(T, s.G, s.N), rep, axis=1)
        dt = softplus(dt + s.dt_bias)
        n = T if ctx["clamp_upto"] is None else min(T, ctx["clamp_upto"])
        dt[:n] = np.clip(dt[:n], *s.lim)
        ctx["dt_min"] = min(ctx["dt_min"], dt.min())
        h = np.zeros((s.H, s.P, s.N))
        y = np.empty((T, s.H, s.P))
        for t in range(T):
            h = h * np.exp(dt[t] * s.A)[:, None, None] + \
                (dt[t][:, None] * x[t])[:, :, None] * B[t][:, None, :]
            y[t] = (h * C[t][:, None, :]).sum(-1)
        y += (s.D[:, None] if s.D.size == s.H else s.D.reshape(s.H, s.P)) * x
        y = y.reshape(T, s.d)
        if s.gate == "gate_only":
            y = y * silu(z)
        elif s.gate == "norm_after_gate":
            y = rms(y * silu(z), s.eps, s.G) * s.norm_w
        else:
            y = rms(y, s.eps, s.G) * s.norm_w * silu(z)
        ctx["state"][-1].update(conv=pad[T:].T, ssm=h)      # last K inputs of the conv, final h
        return linear(y, s.out_w, s.out_b)


def rope(x, pos, dim, theta):
    """x [T, heads, D]; rotates the first `dim` channels, half-split pairing."""
    inv = theta ** (-np.arange(0, dim, 2) / dim)
    a = pos[:, None, None] * inv
    c, s = np.cos(a), np.sin(a)
    x1, x2, rest = x[..., :dim // 2], x[..., dim // 2:dim], x[..., dim:]
    return np.concatenate([x1 * c - x2 * s, x2 * c + x1 * s, rest], -1)


def attend(q, k, v, scale, nq, nkv, hd, rope_dim=0, theta=1e4, ctx=None):
    T = q.shape[0]
    q, k, v = q.reshape(T, nq, hd), k.reshape(T, nkv, hd), v.reshape(T, nkv, hd)
    if rope_dim:
        pos = np.arange(T, dtype=F)
        q, k = rope(q, pos, rope_dim, theta), rope(k, pos, rope_dim, theta)
    if ctx is not None:
        ctx["state"][-1].update(k=k.transpose(1, 0, 2), v=v.transpose(1, 0, 2))
    k, v = np.repeat(k, nq // nkv, 1), np.repeat(v, nq // nkv, 1)
    sc = np.einsum("qhd,khd->hqk", q, k) * scale
    sc = np.where(np.tril(np.ones((T, T), bool)), sc, -np.inf)
    sc = np.exp(sc - sc.max(-1, keepdims=True))
    sc /= sc.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", sc, v).reshape(T, nq * hd)


class Attention:
    """Separate q/k/v/o projections (all transformers families)."""

    def __init__(s, w, pre, nq, nkv, hd, scale, rope_dim=0, theta=1e4, key_mult=1.0, o="o_proj"):
        s.p = {n: (w[f"{pre}{n}_proj.weight"], w.get(f"{pre}{n}_proj.bias")) for n in "qkvo"}
        s.a = (scale, nq, nkv, hd, rope_dim, theta)
        s.key_mult = key_mult

    def __call__(s, x, ctx):
        q, k, v = (linear(x, *s.p[n]) for n in "qkv")
        return linear(attend(q, k * s.key_mult, v, *s.a, ctx=ctx), *s.p["o"])


def topk_margin(ctx, scores, k):
    """smallest gap between the k-th and the (k+1)-th score: how safe the choice is"""
    s = -np.sort(-scores, -1)
    ctx["route"] = min(ctx["route"], (s[:, k - 1] - s[:, k]).min())


# --------------------------------------------------------------------------- families
def rope_cfg(c, default_factor=1.0):
    rp = c.get("rope_parameters") or {}
    theta = rp.get("rope_theta", c.get("rope_theta", 10000.0))
    return theta, rp.get("partial_rotary_factor", default_factor)


def is_attn(t):
    return t in ("attention", "full_attention")
