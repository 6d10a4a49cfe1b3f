"""What the tiny checkpoints are, and how their folders are written.

Weights are drawn per tensor from a generator seeded with (seed, weight set, tensor name), so they depend neither on torch's
generator nor on the order of creation: the same seed gives the same bytes on the same versions.
"""
import copy
import hashlib
import json
import math
import os
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

INF = float("inf")


def rng(*key):
    h = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(h[:16], "little")))


# ------------------------------------------------------------------ weights by tensor name
def draw(seed, wset, name, shape, o):
    """o: per-fixture gains {embed, head, out, dt, ...}"""
    r = rng("w", seed, wset, name)
    n = lambda std=1.0: r.standard_normal(shape) * std
    leaf = name.split(".")
    fan = shape[-1]
    if name.endswith("A_log"):
        return np.log(r.uniform(*o.get("A", (0.3, 12.0)), shape))
    if name.endswith("dt_bias"):
        lo, hi = o.get("dt", (0.02, 0.4))
        dt = np.exp(r.uniform(math.log(lo), math.log(hi), shape))
        return dt + np.log(-np.expm1(-dt))              # inverse softplus
    if name.endswith(".D"):
        return 1.0 + n(0.4)
    if name.endswith("e_score_correction_bias"):
        return n(0.15)
    if name.endswith("conv1d.weight"):
        return n(1.0 / math.sqrt(fan))
    if name.endswith("bias"):
        return n(0.2)
    if len(shape) == 1:                                  # all norms
        return 1.0 + n(0.25)
    if "embed" in name:
        return n(o.get("embed", 1.0))
    if name == "lm_head.weight":
        return n(o.get("head", 2.0) / math.sqrt(fan))
    g = 1.0
    if "adapter_list" in name:
        g = 1.0 if leaf[-2] == "0" else 0.8
    elif leaf[-2] in ("q_proj", "k_proj"):
        g = o.get("qk", 1.4)
    elif leaf[-2] in ("v_proj", "gate_proj", "up_proj", "gate_up_proj", "input_linear", "fc1"):
        g = 1.4
    elif leaf[-2] in ("o_proj", "out_proj", "down_proj", "output_linear", "fc2"):
        g = o.get("out", 1.4)
    elif "router" in name or name.endswith("gate.weight"):
        g = 1.6
    w = n(g / math.sqrt(fan))
    if leaf[-2] == "in_proj" and o.get("heads"):
        w[-o["heads"]:] *= o.get("dt_gain", 0.6)         # the dt rows come last
    return w


# ------------------------------------------------------------------ the fixtures
T = dict


def fixtures():
    """name -> spec.  cls/cfg: transformers model; style: how config.json is spelled;
    lens: prompt lengths; wset: weight set (shared by the storage variants); shards: files of safetensors;
    pickled: files of torch.save beside them, or, where there are several, in their place."""
    F = {}

    def add(name, cls, cfg, lens, **kw):
        F[name] = T(name=name, cls=cls, cfg=cfg, lens=lens, wset=kw.pop("wset", name), **kw)

    # ---- mamba2
    add("mamba2", "Mamba2", dict(
        hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=1, num_hidden_layers=3,
        vocab_size=128, chunk_size=256, tie_word_embeddings=False),
        [1, 3, 61, 519], gains=T(heads=8, dt=(0.003, 0.2), A=(0.05, 4.0)))
    add("mamba2_groups", "Mamba2", dict(
        hidden_size=96, num_heads=12, head_dim=16, state_size=24, n_groups=4, num_hidden_layers=2,
        conv_kernel=3, use_bias=True, layer_norm_epsilon=2e-3, vocab_size=131, chunk_size=16,
        tie_word_embeddings=True), [1, 2, 16, 23, 45], style="hf4", store="f16", gains=T(heads=12, embed=0.25, A=(0.1, 6.0)))
    add("mamba2_dtlimit", "Mamba2", dict(
        hidden_size=64, num_heads=4, head_dim=32, state_size=16, n_groups=2, num_hidden_layers=2,
        time_step_limit=(0.05, 0.2), vocab_size=128, chunk_size=16), [1, 7, 37], gains=T(heads=4))
    # ---- original mamba_ssm layout (pytorch_model.bin as published, plus the same in safetensors)
    add("mamba2_ss", "Mamba2", dict(
        hidden_size=64, num_heads=4, head_dim=32, state_size=32, n_groups=1, num_hidden_layers=3,
        vocab_size=256, chunk_size=32, tie_word_embeddings=True), [1, 3, 32, 41, 77],
        style="mamba_ssm", store="f16", pickled=1, gains=T(heads=4, embed=0.25, A=(0.1, 6.0)), ss=dict(
            d_model=64, d_intermediate=0, n_layer=3, vocab_size=250,
            ssm_cfg=dict(layer="Mamba2", d_state=32, headdim=32, chunk_size=32),
            attn_layer_idx=[], attn_cfg={}, rms_norm=True, residual_in_fp32=True, fused_add_norm=True,
            pad_vocab_size_multiple=16, tie_embeddings=True))
    add("mamba2attn_ss", None, None, [1, 3, 23, 45, 131], style="mamba_ssm", store="f16", gains=T(heads=4, embed=0.25), ss=dict(
        d_model=64, d_intermediate=0, n_layer=4, vocab_size=250,
        ssm_cfg=dict(layer="Mamba2", d_state=16, headdim=32, ngroups=1, chunk_size=16),
        attn_layer_idx=[1, 3],
        attn_cfg=dict(causal=True, d_conv=4, head_dim=16, num_heads=6, num_heads_kv=2, out_proj_bias=False,
                      qkv_proj_bias=False, rotary_emb_dim=8),
        rms_norm=True, residual_in_fp32=True, fused_add_norm=True, pad_vocab_size_multiple=16,
        tie_embeddings=True))

    # A gated MLP behind every layer, of a width that is rounded up; attention with biases and without a convolution.
    add("mamba2mlp_ss", None, None, [1, 3, 23, 45], style="mamba_ssm", store="f16", pickled=2,
        gains=T(heads=3, embed=0.25), ss=dict(
        d_model=48, d_intermediate=72, n_layer=3, vocab_size=120,
        ssm_cfg=dict(layer="Mamba2", d_state=16, headdim=32, ngroups=1, chunk_size=16),
        attn_layer_idx=[1], attn_cfg=dict(causal=True, num_heads=6, num_heads_kv=3, rotary_emb_dim=4),
        rms_norm=True, residual_in_fp32=True, fused_add_norm=True, pad_vocab_size_multiple=8, tie_embeddings=True))

    # ---- granitemoehybrid
    gr = dict(
        hidden_size=72, num_attention_heads=6, num_key_value_heads=2, mamba_n_heads=12, mamba_d_head=12,
        mamba_d_state=32, mamba_n_groups=1, mamba_chunk_size=16, num_hidden_layers=5, vocab_size=256,
        layer_types=["mamba", "mamba", "attention", "mamba", "attention"], position_embedding_type="nope",
        intermediate_size=64, shared_intermediate_size=128, num_local_experts=0, num_experts_per_tok=0,
        embedding_multiplier=1.7, logits_scaling=3.0, residual_multiplier=0.45, attention_multiplier=0.11,
        rms_norm_eps=1e-3, tie_word_embeddings=True)
    gg = T(heads=12, embed=0.5, out=2.5)
    gl = [1, 3, 16, 45, 131]
    add("granite_h", "GraniteMoeHybrid", gr, gl, style="hf4", gains=gg)
    add("granite_h_sharded", "GraniteMoeHybrid", gr, [5, 40], style="hf5", gains=gg, wset="granite_h", store="bf16", shards=2)
    add("granite_h_bf16", "GraniteMoeHybrid", gr, [1, 23, 40], style="hf4", gains=gg, wset="granite_h", store="bf16")
    add("granite_h_f16", "GraniteMoeHybrid", gr, [1, 23, 40], style="hf4", gains=gg, wset="granite_h", store="f16")
    add("granite_h_moe", "GraniteMoeHybrid", dict(
        gr, num_local_experts=6, num_experts_per_tok=2, mamba_n_groups=3, intermediate_size=48,
        layer_types=["mamba", "attention", "mamba", "mamba"], num_hidden_layers=4,
        tie_word_embeddings=False), gl[:4], style="hf5", store="bf16", gains=T(heads=12, embed=0.6, head=4.5, out=2.5))
    add("granite_dense_rope", "GraniteMoeHybrid", dict(
        gr, layer_types=["attention"] * 3, num_hidden_layers=3, position_embedding_type="rope",
        rope_theta=5000.0), [1, 23, 45], style="hf4", store="f16", gains=T(gg, out=4.0))

    # ---- bamba
    add("bamba", "Bamba", dict(
        hidden_size=96, intermediate_size=144, num_attention_heads=6, num_key_value_heads=2, mamba_n_heads=6,
        mamba_d_head=32, mamba_d_state=16, mamba_n_groups=1, mamba_chunk_size=16, num_hidden_layers=4,
        attn_layer_indices=[1, 3], vocab_size=256, rms_norm_eps=1e-3, rope_theta=10000.0),
        [1, 3, 16, 23, 45, 200], style="hf4", store="bf16", gains=T(heads=6))

    # ---- falcon_h1
    fh = dict(
        hidden_size=72, intermediate_size=120, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        mamba_d_ssm=80, mamba_n_heads=5, mamba_d_head=16, mamba_d_state=32, mamba_n_groups=1,
        mamba_chunk_size=16, num_hidden_layers=3, vocab_size=256, rms_norm_eps=1e-3, rope_theta=1e11,
        mamba_rms_norm=False, mamba_norm_before_gate=False, embedding_multiplier=2.5,
        lm_head_multiplier=0.4, key_multiplier=0.6, attention_in_multiplier=0.9,
        attention_out_multiplier=0.8, ssm_in_multiplier=1.25, ssm_out_multiplier=0.7,
        ssm_multipliers=[0.6, 0.9, 0.75, 1.3, 0.8], mlp_multipliers=[0.9, 0.6])
    fg = T(heads=5, embed=0.4, head=5.0, out=2.2)
    add("falcon_h1", "FalconH1", fh, [1, 3, 16, 45, 131], style="hf4", store="bf16", gains=fg)
    add("falcon_h1_norm", "FalconH1", dict(fh, mamba_rms_norm=True, mamba_n_groups=2, mamba_d_ssm=96,
        mamba_n_heads=6), [1, 23, 45], style="hf5", store="f16", gains=T(fg, heads=6))
    add("falcon_h1_nbg", "FalconH1", dict(fh, mamba_rms_norm=True, mamba_norm_before_gate=True,
        mamba_proj_bias=True, projectors_bias=True, attention_bias=True, mlp_bias=True,
        tie_word_embeddings=True), [1, 23, 45], style="hf5", store="bf16", gains=T(fg, embed=0.32, out=3.5))

    # ---- zamba2
    z = dict(
        hidden_size=64, intermediate_size=96, num_attention_heads=4, n_mamba_heads=8, mamba_d_state=16,
        mamba_ngroups=1, mamba_expand=2, chunk_size=16, num_hidden_layers=6, vocab_size=256,
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid", "mamba", "mamba"], num_mem_blocks=1,
        use_shared_attention_adapter=True, adapter_rank=8, use_mem_rope=True, rope_theta=10000.0,
        rms_norm_eps=1e-3, tie_word_embeddings=True, pad_token_id=0)
    zg = T(heads=8, embed=0.3, dt=(0.03, 0.4), dt_gain=0.5, qk=0.8)
    add("zamba2", "Zamba2", z, [1, 3, 23, 90], style="hf4", store="bf16", gains=zg)
    add("zamba2_2blk", "Zamba2", dict(
        z, mamba_ngroups=2, num_mem_blocks=2, use_shared_attention_adapter=False, use_mem_rope=False,
        add_bias_linear=True, num_hidden_layers=7,
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid", "hybrid", "mamba", "hybrid"]),
        [1, 23, 45], style="hf5", store="f16", gains=zg)

    # ---- nemotron_h
    nh = dict(
        hidden_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=32, mamba_num_heads=6,
        mamba_head_dim=16, ssm_state_size=16, n_groups=2, chunk_size=16, vocab_size=256,
        layers_block_type=["mamba", "mlp", "mamba", "attention", "mlp", "mamba", "mlp"], intermediate_size=128,
        layer_norm_epsilon=1e-3, moe_intermediate_size=40, moe_shared_expert_intermediate_size=56,
        n_routed_experts=6, num_experts_per_tok=2)
    ng = T(heads=6, out=1.0, dt=(0.03, 0.4), dt_gain=0.5)
    add("nemotron_h", "NemotronH", nh, [1, 3, 16, 45, 131], style="hf4", store="bf16", gains=ng)
    add("nemotron_h_moe", "NemotronH", dict(
        nh, layers_block_type=["mamba", "moe", "mamba", "attention", "moe"], routed_scaling_factor=2.5,
        norm_topk_prob=True), [1, 3, 16, 23, 45], style="hf5", store="bf16", gains=ng)
    add("nemotron_h_latent", "NemotronH", dict(
        nh, layers_block_type=["mamba", "moe", "attention", "moe"], n_routed_experts=8, n_group=4, topk_group=2,
        moe_latent_size=40, routed_scaling_factor=1.5), [1, 23, 45], style="hf5", store="f16", gains=ng)
    return F


# ------------------------------------------------------------------ config.json spellings
HF5_TO_4 = {"linear_attention": "mamba", "full_attention": "attention"}


def respell(c, style):
    """hf5: as transformers 5 writes it.  hf4: as the published (4.x) checkpoints spell it."""
    if style != "hf4":
        return c
    c = copy.deepcopy(c)
    rp = c.pop("rope_parameters", None)
    if rp:
        c["rope_theta"], c["rope_scaling"] = rp["rope_theta"], None
    c["torch_dtype"] = c.pop("dtype")
    c["transformers_version"] = "4.57.0"
    for k in ("layer_types", "layers_block_type"):
        if k in c:
            c[k] = [HF5_TO_4.get(t, t) for t in c[k]]
    if c["model_type"] == "nemotron_h":
        t = c.pop("layers_block_type")
        c["hybrid_override_pattern"] = "".join({"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}[x] for x in t)
        c["num_hidden_layers"] = len(t)
        c["rms_norm_eps"] = 1e-6                      # present in published configs, never read
    if c["model_type"] in ("mamba2", "nemotron_h"):
        c["time_step_limit"] = [0.0, INF]             # json writes the bare literal Infinity
    else:
        c.pop("time_step_limit", None)
    if c["model_type"] == "bamba":
        c["attn_rotary_emb"] = 8
        c["mamba_d_head"] = "auto"
    return c


def write_json(path, obj):
    with open(path, "w") as f:
        json.dump(obj, f, indent=2, sort_keys=True)
        f.write("\n")


# ------------------------------------------------------------------ checkpoint folder
STORE = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def hf_class(spec):
    return getattr(transformers, spec["cls"] + "ForCausalLM")


def build(spec, seed, d):
    """write the checkpoint folder d"""
    os.makedirs(d)
    if spec["cls"]:
        cls = hf_class(spec)
        model = cls(cls.config_class(**copy.deepcopy(spec["cfg"])))
        with tempfile.TemporaryDirectory() as tmp:     # save_pretrained yields the published names
            model.save_pretrained(tmp)
            shapes = {k: tuple(v.shape) for k, v in load_file(os.path.join(tmp, "model.safetensors")).items()}
            with open(os.path.join(tmp, "config.json")) as f:
                cfg = json.load(f)
    else:
        shapes, cfg = ss_shapes(spec["ss"]), None
    store = spec.get("store", "f32")
    w = {}
    for name in sorted(shapes):
        v = draw(seed, spec["wset"], name, shapes[name], spec.get("gains", {}))
        t = torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32))
        if store == "bf16" and name.endswith((".A_log", ".D", ".dt_bias")):
            w[name] = t                                # mixed storage, as some checkpoints have it
        else:
            w[name] = t.to(STORE[store])
    style = spec.get("style", "hf5")
    if style == "mamba_ssm":
        w = {k.replace("backbone.embeddings.", "backbone.embedding."): v for k, v in w.items()}
        write_json(os.path.join(d, "config.json"), spec["ss"])
        save_file(w, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
        full = dict(w)
        full["lm_head.weight"] = full["backbone.embedding.weight"]      # tied: one storage, two names
        if spec.get("pickled") == 1:
            torch.save(full, os.path.join(d, "pytorch_model.bin"))
        elif spec.get("pickled"):
            shard(full, spec["pickled"], d, "pytorch_model", "bin", torch.save)
        return
    cfg["dtype"] = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[store]
    write_json(os.path.join(d, "config.json"), respell(cfg, style))
    if not spec.get("shards"):
        save_file(w, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
        return
    shard(w, spec["shards"], d, "model", "safetensors", lambda part, path: save_file(part, path, metadata={"format": "pt"}))


def shard(w, n, d, stem, ending, save):
    names, wm, total = sorted(w), {}, 0
    for i in range(n):
        part = names[i * len(names) // n:(i + 1) * len(names) // n]
        fn = f"{stem}-{i + 1:05d}-of-{n:05d}.{ending}"
        save({k: w[k] for k in part}, os.path.join(d, fn))
        wm.update({k: fn for k in part})
        total += sum(w[k].numel() * w[k].element_size() for k in part)
    write_json(os.path.join(d, f"{stem}.{ending}.index.json"), {"metadata": {"total_size": total}, "weight_map": wm})


def ss_shapes(c):
    D, sc, ac = c["d_model"], c["ssm_cfg"], c["attn_cfg"]
    m = c["pad_vocab_size_multiple"]
    V = -(-c["vocab_size"] // m) * m
    P, N, G = sc["headdim"], sc["d_state"], sc.get("ngroups", 1)
    F = -(-c["d_intermediate"] // 128) * 128
    d = 2 * D
    H, cv = d // P, d + 2 * G * N
    s = {"backbone.embedding.weight": (V, D), "backbone.norm_f.weight": (D,)}
    for i in range(c["n_layer"]):
        L = f"backbone.layers.{i}."
        s[L + "norm.weight"] = (D,)
        if F:
            s.update({L + "norm2.weight": (D,), L + "mlp.fc1.weight": (2 * F, D), L + "mlp.fc2.weight": (D, F)})
        L += "mixer."
        if i in c["attn_layer_idx"]:
            nq = ac["num_heads"]
            hd = ac.get("head_dim", D // nq)
            q = hd * (nq + 2 * ac.get("num_heads_kv", nq))
            s.update({L + "in_proj.weight": (q, D), L + "out_proj.weight": (D, nq * hd)})
            if ac.get("d_conv", 0):
                s.update({L + "conv1d.weight": (q, 1, ac["d_conv"]), L + "conv1d.bias": (q,)})
            if ac.get("qkv_proj_bias", True):
                s[L + "in_proj.bias"] = (q,)
            if ac.get("out_proj_bias", True):
                s[L + "out_proj.bias"] = (D,)
        else:
            s.update({L + "in_proj.weight": (d + cv + H, D), L + "conv1d.weight": (cv, 1, 4), L + "conv1d.bias": (cv,),
                      L + "dt_bias": (H,), L + "A_log": (H,), L + "D": (H,), L + "norm.weight": (d,),
                      L + "out_proj.weight": (D, d)})
    return s
