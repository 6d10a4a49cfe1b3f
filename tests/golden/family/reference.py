"""Independent forward pass of the Mamba-2 family, numpy only.

Reads nothing but the files of a checkpoint folder and computes logits in float64 with a plain token-by-token recurrence: no
chunking, no caches. It shares no code with transformers, mamba_ssm or the runtime. Slow; for tiny models only.
"""
import math

import numpy as np

from parts import *

class Model:
    """Residual-stream blocks: list of functions (h [T,D], emb [T,D], ctx) -> h."""

    def __init__(s, c, w):
        s.blocks, s.emb_mult, s.logit_mult, s.final_bias = [], 1.0, 1.0, None
        if "ssm_cfg" in c:
            s.state_spaces(c, w)
        else:
            getattr(s, c["model_type"])(c, w)

    # ---- mamba2 (transformers layout)
    def mamba2(s, c, w):
        eps, d = c.get("layer_norm_epsilon", 1e-5), "backbone."
        s.emb = w[d + "embeddings.weight"]
        for i in range(c["num_hidden_layers"]):
            L = f"{d}layers.{i}."
            m = Mamba2(w, L + "mixer.", c["num_heads"], c["head_dim"], c["n_groups"], c["state_size"],
                       eps, dt_limit=tuple(c.get("time_step_limit", (0.0, math.inf))),
                       act=c.get("hidden_act", "silu"))
            s.blocks.append(s.pre(w[L + "norm.weight"], eps, m))
        s.final(w[d + "norm_f.weight"], eps)
        s.head = s.emb if c.get("tie_word_embeddings") else w["lm_head.weight"]

    # ---- original mamba_ssm layout, ssm_cfg.layer == "Mamba2", optional attention layers
    def state_spaces(s, c, w):
        sc, eps, d = dict(c["ssm_cfg"]), 1e-5, "backbone."
        assert sc.get("layer", "Mamba1") == "Mamba2"
        assert c.get("rms_norm", True)
        D = c["d_model"]
        P, N, G = sc.get("headdim", 64), sc.get("d_state", 128), sc.get("ngroups", 1)
        H = sc.get("expand", 2) * D // P
        gate = "gate_only" if not sc.get("rmsnorm", True) else \
            "norm_before_gate" if sc.get("norm_before_gate") else "norm_after_gate"
        s.emb = w[d + "embedding.weight"]
        ac = c.get("attn_cfg") or {}
        for i in range(c["n_layer"]):
            L = f"{d}layers.{i}."
            if i in (c.get("attn_layer_idx") or []):
                m = s.mha(w, L + "mixer.", ac, D)
            else:
                m = Mamba2(w, L + "mixer.", H, P, G, N, eps, gate, tuple(sc.get("dt_limit", (0.0, math.inf))))
            if not c.get("d_intermediate", 0):
                s.blocks.append(s.pre(w[L + "norm.weight"], eps, m))
                continue
            up, down = w[L + "mlp.fc1.weight"], w[L + "mlp.fc2.weight"]
            s.blocks.append(s.pre2(w[L + "norm.weight"], w[L + "norm2.weight"], eps, m, s.fc_mlp(up, down)))
        s.final(w[d + "norm_f.weight"], eps)
        s.head = s.emb if c.get("tie_embeddings", True) else w["lm_head.weight"]

    @staticmethod
    def mha(w, pre, a, D):
        nq = a["num_heads"]
        nkv = a.get("num_heads_kv") or nq
        hd = a.get("head_dim") or D // nq
        assert a.get("causal") and not a.get("mlp_dim") and not a.get("rotary_emb_interleaved")
        scale = a.get("softmax_scale") or hd ** -0.5
        iw, ib = w[pre + "in_proj.weight"], w.get(pre + "in_proj.bias")
        ow, ob = w[pre + "out_proj.weight"], w.get(pre + "out_proj.bias")
        K = a.get("d_conv", 0)

        def run(x, ctx):
            qkv, T = linear(x, iw, ib), x.shape[0]
            if K:                       # depthwise causal conv over q|k|v, bias, no activation
                cw = w[pre + "conv1d.weight"][:, 0]
                pad = np.concatenate([np.zeros((K, qkv.shape[1])), qkv])
                ctx["state"][-1]["conv"] = pad[T:].T
                qkv = sum(pad[k + 1:k + 1 + T] * cw[:, k] for k in range(K)) + w[pre + "conv1d.bias"]
            q, k, v = np.split(qkv, [nq * hd, (nq + nkv) * hd], axis=1)
            return linear(attend(q, k, v, scale, nq, nkv, hd, a.get("rotary_emb_dim", 0),
                                 a.get("rotary_emb_base", 1e4), ctx), ow, ob)
        return run

    @staticmethod
    def fc_mlp(up, down):
        """GatedMLP of mamba_ssm: the gate is the second half."""
        def run(x, ctx):
            a, gate = np.split(linear(x, up), 2, axis=1)
            return linear(a * silu(gate), down)
        return run

    # ---- granitemoehybrid
    def granitemoehybrid(s, c, w):
        eps, rm, D = c["rms_norm_eps"], c["residual_multiplier"], c["hidden_size"]
        act = ACT[c.get("hidden_act", "silu")]
        nq, nkv = c["num_attention_heads"], c["num_key_value_heads"]
        hd = c.get("head_dim") or D // nq
        theta, _ = rope_cfg(c)
        rd = hd if c.get("position_embedding_type") == "rope" else 0
        s.emb, s.emb_mult = w["model.embed_tokens.weight"], c["embedding_multiplier"]
        H = c["mamba_n_heads"]
        P = c.get("mamba_d_head", "auto")
        P = c.get("mamba_expand", 2) * D // H if P == "auto" else P
        E, top = c.get("num_local_experts", 0), c.get("num_experts_per_tok", 0)
        for i, ty in enumerate(c["layer_types"]):
            L = f"model.layers.{i}."
            if is_attn(ty):
                m = Attention(w, L + "self_attn.", nq, nkv, hd, c["attention_multiplier"], rd, theta)
            else:
                m = Mamba2(w, L + "mamba.", H, P, c["mamba_n_groups"], c["mamba_d_state"], eps,
                           dt_limit=tuple(c.get("time_step_limit") or (0.0, math.inf)))

            def mlp(x, ctx, L=L):
                a, b = np.split(linear(x, w[L + "shared_mlp.input_linear.weight"]), 2, axis=1)
                y = linear(act(a) * b, w[L + "shared_mlp.output_linear.weight"])
                if E:
                    r = linear(x, w[L + "block_sparse_moe.router.layer.weight"])
                    topk_margin(ctx, r, top)
                    wi, wo = w[L + "block_sparse_moe.input_linear.weight"], w[L + "block_sparse_moe.output_linear.weight"]
                    for t in range(x.shape[0]):
                        ix = np.argsort(-r[t])[:top]
                        p = np.exp(r[t][ix] - r[t][ix].max())
                        for e, pe in zip(ix, p / p.sum()):
                            a, b = np.split(wi[e] @ x[t], 2)
                            y[t] += pe * (wo[e] @ (act(a) * b))
                return y
            s.blocks.append(s.pre2(w[L + "input_layernorm.weight"], w[L + "post_attention_layernorm.weight"],
                                   eps, m, mlp, rm))
        s.final(w["model.norm.weight"], eps)
        s.head = s.emb if c.get("tie_word_embeddings") else w["lm_head.weight"]
        s.logit_mult = 1.0 / c["logits_scaling"]

    # ---- bamba
    def bamba(s, c, w):
        eps, D = c["rms_norm_eps"], c["hidden_size"]
        nq, nkv = c["num_attention_heads"], c["num_key_value_heads"]
        hd = c.get("head_dim") or D // nq
        theta, fac = rope_cfg(c, 0.5)
        s.emb = w["model.embed_tokens.weight"]
        H = c["mamba_n_heads"]
        P = c.get("mamba_d_head", "auto")
        P = c.get("mamba_expand", 2) * D // H if P == "auto" else P
        for i in range(c["num_hidden_layers"]):
            L = f"model.layers.{i}."
            if i in (c.get("attn_layer_indices") or []):
                m = Attention(w, L + "self_attn.", nq, nkv, hd, hd ** -0.5, int(hd * fac), theta)
            else:
                m = Mamba2(w, L + "mamba.", H, P, c["mamba_n_groups"], c["mamba_d_state"], eps,
                           dt_limit=tuple(c.get("time_step_limit") or (0.0, math.inf)))
            s.blocks.append(s.pre2(w[L + "input_layernorm.weight"], w[L + "pre_ff_layernorm.weight"], eps, m,
                                   s.swiglu(w, L + "feed_forward.", ACT[c.get("hidden_act", "silu")])))
        s.final(w["model.final_layernorm.weight"], eps)
        s.head = s.emb if c.get("tie_word_embeddings") else w["lm_head.weight"]

    # ---- falcon_h1
    def falcon_h1(s, c, w):
        eps, D = c["rms_norm_eps"], c["hidden_size"]
        nq, nkv = c["num_attention_heads"], c["num_key_value_heads"]
        hd = c.get("head_dim") or D // nq
        theta, _ = rope_cfg(c)
        H = c["mamba_n_heads"]
        dssm = c.get("mamba_d_ssm") or c.get("mamba_expand", 2) * D
        gate = "gate_only" if not c.get("mamba_rms_norm", False) else \
            "norm_before_gate" if c.get("mamba_norm_before_gate", True) else "norm_after_gate"
        g1, g2 = c.get("mlp_multipliers") or (1.0, 1.0)
        act = ACT[c.get("hidden_act", "silu")]
        s.emb, s.emb_mult = w["model.embed_tokens.weight"], c.get("embedding_multiplier", 1.0)
        for i in range(c["num_hidden_layers"]):
            L = f"model.layers.{i}."
            m = Mamba2(w, L + "mamba.", H, dssm // H, c["mamba_n_groups"], c["mamba_d_state"], eps, gate,
                       tuple(c.get("time_step_limit") or (0.0, math.inf)), c.get("ssm_in_multiplier", 1.0),
                       c.get("ssm_multipliers") or (1.0,) * 5)
            a = Attention(w, L + "self_attn.", nq, nkv, hd, hd ** -0.5, hd, theta, c.get("key_multiplier", 1.0))

            def mix(x, ctx, m=m, a=a):
                return m(x, ctx) * c.get("ssm_out_multiplier", 1.0) + \
                    a(x * c.get("attention_in_multiplier", 1.0), ctx) * c.get("attention_out_multiplier", 1.0)

            def mlp(x, ctx, L=L + "feed_forward."):
                u = linear(x, w[L + "up_proj.weight"], w.get(L + "up_proj.bias"))
                g = linear(x, w[L + "gate_proj.weight"], w.get(L + "gate_proj.bias"))
                return linear(u * act(g * g1), w[L + "down_proj.weight"], w.get(L + "down_proj.bias")) * g2
            s.blocks.append(s.pre2(w[L + "input_layernorm.weight"], w[L + "pre_ff_layernorm.weight"], eps, mix, mlp))
        s.final(w["model.final_layernorm.weight"], eps)
        s.head = s.emb if c.get("tie_word_embeddings") else w["lm_head.weight"]
        s.logit_mult = c.get("lm_head_multiplier", 1.0)

    # ---- zamba2
    def zamba2(s, c, w):
        eps, D = c["rms_norm_eps"], c["hidden_size"]
        nq = c["num_attention_heads"]
        nkv = c.get("num_key_value_heads") or nq
        hd = 2 * D // nq
        theta, _ = rope_cfg(c)
        act, H = ACT[c.get("hidden_act", "gelu")], c["n_mamba_heads"]
        lim = (c.get("time_step_min", 0.001), math.inf)     # transformers' choice; see the spec
        s.emb = w["model.embed_tokens.weight"]
        hyb = [i for i, t in enumerate(c["layers_block_type"]) if t == "hybrid"]
        nb, ffn = c.get("num_mem_blocks", 1), c.get("intermediate_size") or 4 * D
        for i, ty in enumerate(c["layers_block_type"]):
            L = f"model.layers.{i}."
            M = L + ("mamba_decoder." if ty == "hybrid" else "")
            m = Mamba2(w, M + "mamba.", H, c["mamba_expand"] * D // H, c["mamba_ngroups"], c["mamba_d_state"],
                       1e-5, dt_limit=lim)
            nw = w[M + "input_layernorm.weight"]
            if ty != "hybrid":
                s.blocks.append(s.pre(nw, eps, m))
                continue
            h = hyb.index(i)
            S = f"model.layers.{hyb[h % nb]}.shared_transformer."      # where block h % nb is stored
            att = Attention(w, S + "self_attn.", nq, nkv, hd, (hd / 2) ** -0.5, hd if c.get("use_mem_rope") else 0, theta)

            def run(x, emb, ctx, m=m, nw=nw, h=h, S=S, att=att, L=L):
                a = rms(np.concatenate([x, emb], 1), eps) * w[S + "input_layernorm.weight"]
                if c.get("use_shared_attention_adapter"):
                    q, k, v = (linear(a, w[f"{S}self_attn.{n}_proj.weight"]) +
                               linear(linear(a, w[f"{S}self_attn.linear_{n}_adapter_list.{h}.0.weight"]),
                                      w[f"{S}self_attn.linear_{n}_adapter_list.{h}.1.weight"]) for n in "qkv")
                    a = linear(attend(q, k, v, *att.a, ctx=ctx), *att.p["o"])
                else:
                    a = att(a, ctx)
                a = rms(a, eps) * w[S + "pre_ff_layernorm.weight"]
                f = S + "feed_forward."
                gu = linear(a, w[f + "gate_up_proj.weight"], w.get(f + "gate_up_proj.bias")) + \
                    linear(linear(a, w[f"{f}gate_up_proj_adapter_list.{h}.0.weight"]),
                           w[f"{f}gate_up_proj_adapter_list.{h}.1.weight"])
                g, u = np.split(gu, 2, axis=1)
                assert g.shape[1] == ffn
                t = linear(linear(act(g) * u, w[f + "down_proj.weight"], w.get(f + "down_proj.bias")),
                           w[L + "linear.weight"])
                return x + m(rms(x + t, eps) * nw, ctx)
            s.blocks.append(run)
        s.final(w["model.final_layernorm.weight"], eps)
        s.head = s.emb if c.get("tie_word_embeddings", True) else w["lm_head.weight"]

    # ---- nemotron_h
    def nemotron_h(s, c, w):
        eps, D, d = c["layer_norm_epsilon"], c["hidden_size"], "backbone."
        types = c.get("layers_block_type") or \
            [{"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}[x] for x in c["hybrid_override_pattern"]]
        nq, nkv = c["num_attention_heads"], c["num_key_value_heads"]
        hd = c.get("head_dim") or c.get("attention_head_dim") or 128
        act = ACT[c.get("mlp_hidden_act", "relu2")]
        lim = (c.get("time_step_min", 0.001), math.inf)     # transformers' choice; see the spec
        s.emb = w[d + "embeddings.weight"]
        for i, ty in enumerate(types):
            L = f"{d}layers.{i}.mixer."
            if ty in ("mamba", "linear_attention"):
                m = Mamba2(w, L, c["mamba_num_heads"], c["mamba_head_dim"], c["n_groups"], c["ssm_state_size"],
                           eps, dt_limit=lim, act=c.get("mamba_hidden_act", "silu"))
            elif is_attn(ty):
                m = Attention(w, L, nq, nkv, hd, hd ** -0.5)
            elif ty == "mlp":
                m = s.plain_mlp(w, L, act)
            else:
                m = s.nemotron_moe(c, w, L, act)
            s.blocks.append(s.pre(w[f"{d}layers.{i}.norm.weight"], eps, m))
        s.final(w[d + "norm_f.weight"], eps)
        s.head = s.emb if c.get("tie_word_embeddings") else w["lm_head.weight"]

    def nemotron_moe(s, c, w, L, act):
        E, top, ng, tg = c["n_routed_experts"], c["num_experts_per_tok"], c.get("n_group", 1), c.get("topk_group", 1)
        shared = s.plain_mlp(w, L + "shared_experts.", act)

        def run(x, ctx):
            sc = sigmoid(linear(x, w[L + "gate.weight"]))
            ch = sc + w[L + "gate.e_score_correction_bias"]
            if ng > 1:
                g = ch.reshape(-1, ng, E // ng)
                gs = -np.sort(-g, -1)[..., :2].sum(-1)                 # two best of each group
                if tg < ng:
                    topk_margin(ctx, gs, tg)
                keep = np.argsort(-gs, -1)[:, :tg]
                ok = np.zeros_like(gs, bool)
                np.put_along_axis(ok, keep, True, -1)
                ch = np.where(ok[..., None], g, -np.inf).reshape(-1, E)
            topk_margin(ctx, ch, top)
            lat = x
            if L + "fc1_latent_proj.weight" in w:
                lat = linear(x, w[L + "fc1_latent_proj.weight"], w.get(L + "fc1_latent_proj.bias"))
            y = np.zeros_like(lat)
            for t in range(x.shape[0]):
                ix = np.argsort(-ch[t])[:top]
                p = sc[t][ix]
                if c.get("norm_topk_prob", True):
                    p = p / (p.sum() + 1e-20)
                for e, pe in zip(ix, p * c.get("routed_scaling_factor", 1.0)):
                    y[t] += pe * (w[f"{L}experts.{e}.down_proj.weight"] @ act(w[f"{L}experts.{e}.up_proj.weight"] @ lat[t]))
            if L + "fc2_latent_proj.weight" in w:
                y = linear(y, w[L + "fc2_latent_proj.weight"], w.get(L + "fc2_latent_proj.bias"))
            return y + shared(x, ctx)
        return run

    # ---- shared shapes
    @staticmethod
    def plain_mlp(w, L, act):
        return lambda x, ctx: linear(act(linear(x, w[L + "up_proj.weight"], w.get(L + "up_proj.bias"))),
                                     w[L + "down_proj.weight"], w.get(L + "down_proj.bias"))

    @staticmethod
    def swiglu(w, L, act):
        def run(x, ctx):
            g = linear(x, w[L + "gate_proj.weight"], w.get(L + "gate_proj.bias"))
            u = linear(x, w[L + "up_proj.weight"], w.get(L + "up_proj.bias"))
            return linear(act(g) * u, w[L + "down_proj.weight"], w.get(L + "down_proj.bias"))
        return run

    @staticmethod
    def pre(nw, eps, mixer):
        return lambda h, emb, ctx: h + mixer(rms(h, eps) * nw, ctx)

    @staticmethod
    def pre2(n1, n2, eps, mixer, mlp, rm=1.0):
        def run(h, emb, ctx):
            h = h + mixer(rms(h, eps) * n1, ctx) * rm
            return h + mlp(rms(h, eps) * n2, ctx) * rm
        return run

    def final(s, nw, eps):
        s.norm = lambda h: rms(h, eps) * nw

    def forward(s, ids, clamp_upto=None):
        """-> logits [T,V], ctx with per-layer hidden states, final states, margins"""
        ctx = {"clamp_upto": clamp_upto, "state": [], "hidden": [], "route": math.inf, "dt_min": math.inf}
        emb = h = s.emb[np.asarray(ids)] * s.emb_mult
        ctx["hidden"].append(h)
        for b in s.blocks:
            ctx["state"].append({})
            h = b(h, emb, ctx)
            ctx["hidden"].append(h)
        h = s.norm(h)
        ctx["hidden"].append(h)
        return h @ s.head.T * s.logit_mult, ctx


def load(d):
    return Model(load_config(d), load_weights(d))
