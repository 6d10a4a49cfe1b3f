#!/usr/bin/env python3
"""Golden files for Taipan, computed in float64 numpy straight from the equations of the model (token by token, no tricks, nothing shared
with the Rust code).

usage: make_taipan_fixtures.py OUT_DIR [--seed 1] [--small]        needs: requirements.txt (`cargo xtask golden` provides it)

With --small the same cases of smaller models: those in tests/golden/taipan, which the demo page fetches.

Each case folder is a loadable checkpoint (config.json, model.safetensors, f32) plus golden.json (prompts, options, greedy tokens) and
golden.safetensors: per prompt p `p.ids` [L], `p.logits` [L, vocab], `p.mask` [n_sal, L] (1 = selected), `p.alpha` [n_sal, L].
Gate margins |s1 - s0| and the top-2 margins of the greedy steps are at least 0.02 everywhere, so a correct f32 implementation cannot flip
a selection or a token by rounding.
"""
import argparse, json, pathlib
import numpy as np
from safetensors.numpy import save_file

def silu(x): return x / (1 + np.exp(-x))
def softplus(x): return np.logaddexp(0, x)
def rms(x, w, eps, groups=1):
    g = x.reshape(*x.shape[:-1], groups, -1)
    return (g / np.sqrt((g * g).mean(-1, keepdims=True) + eps)).reshape(x.shape) * w

class Taipan:
    def __init__(self, cfg, w):
        self.c, self.w = cfg, {k: v.astype(np.float64) for k, v in w.items()}

    def new_state(self, budget):
        c, m, a = self.c, self.c["mamba2"], self.c["selective_attention"]
        di = m["expand"] * c["hidden_size"]
        st = []
        for t in c["layer_types"]:
            if t == "mamba2":
                st.append({"conv": np.zeros((m["d_conv"], di + 2 * m["n_groups"] * m["d_state"])),
                           "ssm": np.zeros((di // m["head_dim"], m["head_dim"], m["d_state"]))})
            else:
                st.append({"k": [], "v": [], "credit": int(budget["burst"] * 65536) if budget else None})
        return {"layers": st, "pos": 0, "budget": budget}

    def mamba(self, u, p, st):
        c, m, w = self.c, self.c["mamba2"], self.w
        di, G, N, P = m["expand"] * c["hidden_size"], m["n_groups"], m["d_state"], m["head_dim"]
        H = di // P
        zxd = w[p + "in_proj.weight"] @ u
        z, xBC, dt = np.split(zxd, [di, di + di + 2 * G * N])
        st["conv"] = np.vstack([st["conv"][1:], xBC])
        k = w[p + "conv1d.weight"][:, 0, :]
        xBC = silu((st["conv"] * k.T).sum(0) + w[p + "conv1d.bias"])
        x, B, C = np.split(xBC, [di, di + G * N])
        x, B, C = x.reshape(H, P), B.reshape(G, N), C.reshape(G, N)
        lo, hi = m["time_step_limit"]
        dt = np.clip(softplus(dt + w[p + "dt_bias"]), lo, np.inf if hi is None else hi)
        dA = np.exp(dt * -np.exp(w[p + "A_log"]))
        Bh, Ch = np.repeat(B, H // G, 0), np.repeat(C, H // G, 0)
        st["ssm"] = st["ssm"] * dA[:, None, None] + (dt[:, None] * x)[:, :, None] * Bh[:, None, :]
        y = (st["ssm"] * Ch[:, None, :]).sum(-1) + w[p + "D"][:, None] * x
        y = rms(y.reshape(-1) * silu(z), w[p + "norm.weight"], m["norm_eps"], G)
        return w[p + "out_proj.weight"] @ y

    def rope(self, x, pos, theta):
        if theta is None: return x
        half = x.shape[-1] // 2                       # rotate-half convention
        f = pos / theta ** (np.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(f) - b * np.sin(f), b * np.cos(f) + a * np.sin(f)], -1)

    def step(self, tok, S):
        c, a, w = self.c, self.c["selective_attention"], self.w
        eps = c["rms_norm_eps"]
        h = w["embedding.weight"][tok].copy()
        masks, alphas, margins = [], [], []
        for i, t in enumerate(c["layer_types"]):
            p, st = f"layers.{i}.", S["layers"][i]
            x = rms(h, w[p + "norm.weight"], eps)
            if t == "mamba2":
                h = h + self.mamba(x, p + "mixer.", st)
                continue
            s = w[p + "gate.weight"] @ x + w[p + "gate.bias"]
            nh, nk, da = a["num_heads"], a["num_key_value_heads"], a["head_dim"]
            k = self.rope((w[p + "attn.k_proj.weight"] @ x).reshape(nk, da), S["pos"], a["rope_theta"])
            st["k"].append(k); st["v"].append((w[p + "attn.v_proj.weight"] @ x).reshape(nk, da))
            st["k"], st["v"] = st["k"][-a["window"]:], st["v"][-a["window"]:]
            sel = s[1] > s[0]
            if S["budget"]:
                b, c16 = (int(S["budget"][k] * 65536) for k in ("burst", "attention_budget"))
                st["credit"] = min(b, st["credit"] + c16)
                sel = bool(sel and st["credit"] >= 65536)
                st["credit"] -= 65536 if sel else 0
            alpha = 1 / (1 + np.exp(-(s[1] - s[0])))
            if sel:
                q = self.rope((w[p + "attn.q_proj.weight"] @ x).reshape(nh, da), S["pos"], a["rope_theta"])
                K = np.repeat(np.stack(st["k"], 1), nh // nk, 0)      # [heads, j, da]
                V = np.repeat(np.stack(st["v"], 1), nh // nk, 0)
                sc = np.einsum("hd,hjd->hj", q, K) / np.sqrt(da)
                pr = np.exp(sc - sc.max(-1, keepdims=True)); pr /= pr.sum(-1, keepdims=True)
                o = w[p + "attn.o_proj.weight"] @ np.einsum("hj,hjd->hd", pr, V).reshape(-1)
                h = (1 - alpha) * h + alpha * o
            x = rms(h, w[p + "mlp_norm.weight"], eps)
            h = h + w[p + "mlp.down_proj.weight"] @ (silu(w[p + "mlp.gate_proj.weight"] @ x) * (w[p + "mlp.up_proj.weight"] @ x))
            masks.append(sel); alphas.append(alpha); margins.append(abs(s[1] - s[0]))
        S["pos"] += 1
        head = w.get("lm_head.weight", w["embedding.weight"])
        return head @ rms(h, w["norm.weight"], eps), masks, alphas, margins

    def run(self, ids, budget=None, new=0):
        S = self.new_state(budget); L, M, A, G = [], [], [], []
        def one(t):
            l, m, a, g = self.step(int(t), S); L.append(l); M.append(m); A.append(a); G.extend(g)
        for t in ids: one(t)
        out, tops = [], []
        for _ in range(new):
            a, b = np.sort(L[-1])[-2:][::-1]; tops.append(float(a - b))
            out.append(int(np.argmax(L[-1]))); one(out[-1])
        n = len(ids)
        return np.array(L[:n]), np.ascontiguousarray(np.array(M[:n]).T), np.ascontiguousarray(np.array(A[:n]).T), out, (min(G) if G else 1.0), (min(tops) if tops else 1.0)

def config(d=64, groups=("m", "m", "s", "m", "s"), heads=4, kv=None, da=16, window=32, vocab=200, G=1, N=16, P=16, rope=None, tied=True, tsl=(0.0, None)):
    return {"model_type": "taipan", "architectures": ["TaipanForCausalLM"], "vocab_size": vocab, "hidden_size": d, "tie_word_embeddings": tied,
            "rms_norm_eps": 1e-5, "layer_types": [{"m": "mamba2", "s": "selective_attention"}[g] for g in groups],
            "mamba2": {"d_state": N, "d_conv": 4, "expand": 2, "head_dim": P, "n_groups": G, "chunk_size": 16, "conv_bias": True,
                       "proj_bias": False, "time_step_limit": list(tsl), "norm_eps": 1e-5},
            "selective_attention": {"num_heads": heads, "num_key_value_heads": kv or heads, "head_dim": da, "window": window,
                                    "intermediate_size": 3 * d, "rope_theta": rope, "attention_budget": 0.15},
            "bos_token_id": 0, "eos_token_id": 0, "max_trained_length": 256}

def weights(c, r, select):
    d, m, a, w = c["hidden_size"], c["mamba2"], c["selective_attention"], {}
    di, gn = m["expand"] * d, m["n_groups"] * m["d_state"]; H = di // m["head_dim"]
    def lin(o, i, s=1.0): return (r.standard_normal((o, i)) * s / np.sqrt(i)).astype(np.float32)
    def near1(n): return (1 + 0.1 * r.standard_normal(n)).astype(np.float32)
    w["embedding.weight"] = r.standard_normal((c["vocab_size"], d)).astype(np.float32) * (0.6 if c["tie_word_embeddings"] else 1.0)
    for i, t in enumerate(c["layer_types"]):
        p = f"layers.{i}."; w[p + "norm.weight"] = near1(d)
        if t == "mamba2":
            w[p + "mixer.in_proj.weight"] = lin(2 * di + 2 * gn + H, d); w[p + "mixer.conv1d.weight"] = (r.standard_normal((di + 2 * gn, 1, 4)) * .5).astype(np.float32)
            w[p + "mixer.conv1d.bias"] = (r.standard_normal(di + 2 * gn) * .1).astype(np.float32)
            w[p + "mixer.dt_bias"] = r.uniform(-4, 0.5, H).astype(np.float32); w[p + "mixer.A_log"] = np.log(r.uniform(1, 16, H)).astype(np.float32)
            w[p + "mixer.D"] = near1(H); w[p + "mixer.norm.weight"] = near1(di); w[p + "mixer.out_proj.weight"] = lin(d, di)
        else:
            hq, hk = a["num_heads"] * a["head_dim"], a["num_key_value_heads"] * a["head_dim"]
            w[p + "gate.weight"] = lin(2, d, 1.5); w[p + "gate.bias"] = np.array([0, select], np.float32)
            for n, o in (("q", hq), ("k", hk), ("v", hk)): w[p + f"attn.{n}_proj.weight"] = lin(o, d, 1.5)
            w[p + "attn.o_proj.weight"] = lin(d, hq); w[p + "mlp_norm.weight"] = near1(d); f = a["intermediate_size"]
            w[p + "mlp.gate_proj.weight"], w[p + "mlp.up_proj.weight"], w[p + "mlp.down_proj.weight"] = lin(f, d), lin(f, d), lin(d, f)
    w["norm.weight"] = near1(d)
    if not c["tie_word_embeddings"]: w["lm_head.weight"] = lin(c["vocab_size"], d, 2.0)
    return w

CASES = {  # name: (config arguments, gate bias, prompt lengths, budget option)
    "base": ({}, -0.8, [1, 7, 16, 33, 100], None),
    "all_selected": ({}, 30.0, [40], None),
    "none_selected": ({}, -30.0, [40], None),
    "grouped_kv": ({"heads": 8, "kv": 2, "da": 8}, 0.0, [50], None),
    "rotary": ({"rope": 10000.0}, 0.0, [50], None),
    "untied_groups2": ({"tied": False, "G": 2, "N": 32, "tsl": (0.001, 0.2)}, -0.8, [3, 50], None),
    "wide_heads": ({"d": 128, "da": 64, "heads": 2, "P": 64, "N": 128, "window": 24}, -0.8, [5, 70], None),
    "pure_mamba2": ({"groups": ("m",) * 4}, 0.0, [1, 48], None),
    "bounded": ({}, 0.5, [100], {"attention_budget": 0.25, "burst": 3.0}),
}

SMALL = {"d": 32, "groups": ("m", "s", "m", "s"), "heads": 2, "window": 16, "vocab": 96}
SMALL_CASES = {"wide_heads": {"d": 64, "groups": ("m", "s")}}  # beyond what the case itself says

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("out"); ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--small", action="store_true"); a = ap.parse_args()
    for ci, (name, (kw, select, lengths, budget)) in enumerate(CASES.items()):
        c = config(**({**SMALL, **kw, **SMALL_CASES.get(name, {})} if a.small else kw)); d = pathlib.Path(a.out) / name; d.mkdir(parents=True, exist_ok=True)
        for attempt in range(300):
            r = np.random.default_rng([a.seed, ci, attempt]); w = weights(c, r, select); model = Taipan(c, w)
            gold, meta, ok = {}, {"options": {"attention_bound": budget}, "prompts": {}}, True
            for L in lengths:
                ids = r.integers(0, c["vocab_size"], L); lg, mk, al, new, margin, top2 = model.run(ids, budget, 16)
                ok &= margin >= 0.02 and top2 >= 0.02
                if not ok: break
                gold[f"{L}.ids"] = ids.astype(np.int64); gold[f"{L}.logits"] = lg.astype(np.float32)
                if mk.size: gold[f"{L}.mask"] = mk.astype(np.uint8); gold[f"{L}.alpha"] = al.astype(np.float32)
                meta["prompts"][str(L)] = {"length": L, "greedy": new, "selected": int(mk.sum())}
            if ok: break
        assert ok, name
        meta["logit_std"] = float(lg.std())
        save_file(w, d / "model.safetensors"); save_file(gold, d / "golden.safetensors")
        (d / "config.json").write_text(json.dumps(c, indent=1)); (d / "golden.json").write_text(json.dumps(meta, indent=1))
        print(f"{name}: attempt {attempt}, logit std {meta['logit_std']:.2f}, selected {[p['selected'] for p in meta['prompts'].values()]}")

if __name__ == "__main__":
    main()
