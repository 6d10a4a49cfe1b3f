#!/usr/bin/env python3
"""Tiny models as GGUF files, written with the gguf package, and their logits.

    make.py OUT [--llama]

A model is drawn as those of ../family are, its tensors are stored in the types of `TYPES` (blocks of 256 by the quantiser
below, everything else by gguf), and ../family/reference.py computes logits from what gguf reads back, in float64. With --llama
the same files are held to llama.cpp (package cyllama, which brings it built) as well. Blocks of 256 become f16 in our memory, so the
expected logits are those of the rounded numbers.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from safetensors.numpy import save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "family"))
import reference  # noqa: E402
from fixtures import build, rng, write_json  # noqa: E402
from parts import load_config, load_weights  # noqa: E402

SEED, T = 5, dict
GRANITE = T(
    hidden_size=64, num_attention_heads=4, num_key_value_heads=2, mamba_n_heads=8, mamba_d_head=16, mamba_d_state=16,
    mamba_n_groups=1, mamba_chunk_size=16, position_embedding_type="nope", intermediate_size=32,
    shared_intermediate_size=32, num_local_experts=0, num_experts_per_tok=0, embedding_multiplier=1.7, logits_scaling=3.0,
    residual_multiplier=0.45, attention_multiplier=0.3, rms_norm_eps=1e-3, tie_word_embeddings=True, vocab_size=320,
    num_hidden_layers=3, layer_types=["mamba", "attention", "mamba"])
NEMOTRON = T(
    hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=16, mamba_num_heads=8, mamba_head_dim=16,
    ssm_state_size=16, n_groups=2, chunk_size=16, vocab_size=96, layer_norm_epsilon=1e-3)
MODELS = {
    "mamba2": ("Mamba2", T(
        hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=2, num_hidden_layers=2, vocab_size=96,
        chunk_size=16, tie_word_embeddings=False), T(heads=8, A=(0.1, 6.0))),
    "granitehybrid": ("GraniteMoeHybrid", GRANITE, T(heads=8, embed=0.5, out=2.5)),
    "granitehybrid_moe": ("GraniteMoeHybrid", T(
        GRANITE, num_local_experts=4, num_experts_per_tok=2, intermediate_size=32, layer_types=["mamba", "attention"],
        num_hidden_layers=2, vocab_size=96, position_embedding_type="rope", rope_theta=5000.0), T(heads=8, embed=0.5, out=2.5)),
    "falcon-h1": ("FalconH1", T(
        hidden_size=64, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=16, mamba_d_ssm=64,
        mamba_n_heads=4, mamba_d_head=16, mamba_d_state=16, mamba_n_groups=2, mamba_chunk_size=16, num_hidden_layers=2,
        vocab_size=96, rms_norm_eps=1e-3, rope_theta=1e5, mamba_rms_norm=True, mamba_norm_before_gate=False,
        embedding_multiplier=2.5, lm_head_multiplier=0.4, key_multiplier=0.6, attention_in_multiplier=0.9,
        attention_out_multiplier=0.8, ssm_in_multiplier=1.25, ssm_out_multiplier=0.7,
        ssm_multipliers=[0.6, 0.9, 0.75, 1.3, 0.8], mlp_multipliers=[0.9, 0.6]), T(heads=4, embed=0.4, head=5.0, out=2.2)),
    "nemotron_h": ("NemotronH", T(
        NEMOTRON, intermediate_size=256, layers_block_type=["mamba", "mlp", "attention", "mamba", "mlp"]), T(
            heads=8, dt=(0.03, 0.4), dt_gain=0.5)),
    "nemotron_h_moe": ("NemotronH", T(
        NEMOTRON, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, moe_shared_expert_intermediate_size=32,
        moe_latent_size=32, routed_scaling_factor=1.5, layers_block_type=["mamba", "moe", "attention", "moe"]), T(
            heads=8, dt=(0.03, 0.4), dt_gain=0.5)),
    # Its converter calls Bamba granitehybrid; half of the channels of a head rotate.
    "granitehybrid_bamba": ("Bamba", T(
        hidden_size=64, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, mamba_n_heads=4, mamba_d_head=32,
        mamba_d_state=16, mamba_n_groups=1, mamba_chunk_size=16, num_hidden_layers=2, attn_layer_indices=[1], vocab_size=96,
        rms_norm_eps=1e-3, rope_theta=10000.0), T(heads=4)),
}
# By the end of a name; the first that fits. Vectors and convolutions are f32.
TYPES = {
    "mamba2": [("ssm_in", Q.Q8_0), ("ssm_out", Q.Q4_0), ("token_embd", Q.BF16), ("", Q.Q8_0)],
    "granitehybrid": [("ssm_in", Q.Q8_0), ("attn_v", Q.F32), ("attn_", Q.F16), ("ffn_", Q.BF16), ("", Q.Q8_0)],
    "granitehybrid_moe": [("_inp", Q.F32), ("_exps", Q.Q4_0), ("gate_shexp", Q.BF16), ("attn_", Q.F16), ("", Q.Q8_0)],
    "falcon-h1": [("ffn_down", Q.Q4_K), ("ffn_", Q.Q4_0), ("attn_", Q.Q8_0), ("ssm_in", Q.Q8_0), ("token_embd", Q.BF16), ("", Q.F16)],
    "nemotron_h": [("ssm_", Q.Q4_0), ("ffn_down", Q.Q6_K), ("attn_", Q.F16), ("", Q.Q8_0)],
    "nemotron_h_moe": [("_inp", Q.F32), ("_latent", Q.F16), ("_up_exps", Q.Q8_0), ("_down_exps", Q.BF16), ("", Q.Q8_0)],
    "granitehybrid_bamba": [("attn_q", Q.Q8_0), ("ffn_gate", Q.Q8_0), ("ffn_up", Q.Q4_0), ("token_embd", Q.Q4_0), ("attn_k", Q.F16), ("", Q.Q8_0)],
}


# ------------------------------------------------------------------ blocks of 256, which gguf only reads
def q6_k(w):
    x = w.reshape(-1, 16, 16)
    scale = np.abs(x).max(-1) / 31.0
    d = np.float16(scale.max(-1) / 127.0).astype(np.float64)
    s = np.clip(np.rint(scale / d[:, None]), 1, 127)
    q = np.clip(np.rint(x / (d[:, None] * s)[..., None]) + 32, 0, 63).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.stack([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], 2)
    high = sum((q[:, :, i] >> 4) << (2 * i) for i in range(4)).astype(np.uint8)
    parts = [low.reshape(len(x), -1), high.reshape(len(x), -1), s.astype(np.int8).view(np.uint8),
             np.float16(d).view(np.uint8).reshape(-1, 2)]
    return np.concatenate(parts, 1).reshape(w.shape[0], -1)


def q4_k(w):
    x = w.reshape(-1, 8, 32)
    low = np.minimum(x.min(-1), 0.0)
    scale = (x.max(-1) - low) / 15.0
    d, dm = (np.float16(v.max(-1) / 63.0).astype(np.float64) for v in (scale, -low))
    s, m = np.clip(np.rint(scale / d[:, None]), 1, 63), np.clip(np.rint(-low / dm[:, None]), 0, 63)
    q = np.rint((x + (dm[:, None] * m)[..., None]) / (d[:, None] * s)[..., None])
    q = np.clip(q, 0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    s, m = s.astype(np.uint8), m.astype(np.uint8)
    packed = np.concatenate([s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6,
                             s[:, 4:] & 15 | (m[:, 4:] & 15) << 4], 1)
    parts = [np.float16(d).view(np.uint8).reshape(-1, 2), np.float16(dm).view(np.uint8).reshape(-1, 2), packed,
             (q[:, :, 0] | q[:, :, 1] << 4).reshape(len(x), -1)]
    return np.concatenate(parts, 1).reshape(w.shape[0], -1)


def store(w, kind):
    rows = w.reshape(-1, w.shape[-1])
    data = {Q.Q6_K: q6_k, Q.Q4_K: q4_k}[kind](rows) if kind in (Q.Q6_K, Q.Q4_K) else \
        gguf.quants.quantize(rows.astype(np.float32), kind)
    return data.reshape(*w.shape[:-1], data.shape[-1])


# ------------------------------------------------------------------ names and values as such a file has them
def halves_in_turn(w, heads, share=1.0):
    """Rows of queries and keys of Granite: the halves of the channels that rotate in turn."""
    rows = w.reshape(heads, w.shape[0] // heads, -1)
    r = int(rows.shape[1] * share)
    turned = rows[:, :r].reshape(heads, 2, r // 2, -1).swapaxes(1, 2).reshape(heads, r, -1)
    return np.concatenate([turned, rows[:, r:]], 1).reshape(w.shape)


def share(c):
    return 0.5 if c["model_type"] == "bamba" else 1.0


def ours(c, w):
    """name there -> value there, for weights of a family."""
    out, kind = {}, c["model_type"]
    top = {"embeddings.weight": "token_embd", "embed_tokens.weight": "token_embd", "norm_f.weight": "output_norm",
           "final_layernorm.weight": "output_norm", "norm.weight": "output_norm"}
    norms = {"norm": "attn_norm", "input_layernorm": "attn_norm", "pre_ff_layernorm": "ffn_norm",
             "post_attention_layernorm": "ffn_norm"}
    heads = {"attn_q": c.get("num_attention_heads"), "attn_k": c.get("num_key_value_heads")}
    fixed = {"in_proj": "ssm_in", "conv1d": "ssm_conv1d", "out_proj": "ssm_out", "norm": "ssm_norm", "q_proj": "attn_q",
             "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "up_proj": "ffn_up", "gate_proj": "ffn_gate",
             "down_proj": "ffn_down"}
    for name, v in w.items():
        if name == "lm_head.weight":
            out["output.weight"] = v
            continue
        if ".layers." not in name:
            out[top[name.split(".", 1)[1]] + ".weight"] = v
            continue
        i, rest = name.split(".layers.")[1].split(".", 1)
        leaf, blk = rest.split("."), f"blk.{i}."
        if len(leaf) == 2 and leaf[0] in norms:
            # One of them has lost its ending on the way.
            out[blk + norms[leaf[0]] + ("" if leaf[0] == "pre_ff_layernorm" and "mlp_multipliers" in c else ".weight")] = v
        elif leaf[-1] == "dt_bias":
            out[blk + "ssm_dt.bias"] = v
        elif leaf[-1] == "A_log":
            out[blk + "ssm_a"] = -np.exp(v)[:, None]
        elif leaf[-1] == "D":
            out[blk + "ssm_d"] = v[:, None]
        elif "router" in rest or rest == "mixer.gate.weight":
            out[blk + "ffn_gate_inp.weight"] = v
        elif rest == "mixer.gate.e_score_correction_bias":
            out[blk + "exp_probs_b.bias"] = v
        elif "_latent_proj" in rest:
            out[blk + {"fc1": "ffn_latent_down", "fc2": "ffn_latent_up"}[leaf[1][:3]] + ".weight"] = v
        elif ".shared_experts." in rest:
            out[f"{blk}{fixed[leaf[-2]]}_shexp.weight"] = v
        elif ".experts." in rest:
            # All in one; what is not given is marked.
            there = f"{blk}{fixed[leaf[-2]]}_exps.weight"
            out.setdefault(there, np.full((c["n_routed_experts"], *v.shape), -1.0))[int(leaf[2])] = v
        elif "input_linear" in rest or "output_linear" in rest:
            end = "_exps" if "block_sparse" in rest else "_shexp" if c["num_local_experts"] else ""
            parts = ["down"] if "output" in rest else ["gate", "up"]
            for part, value in zip(parts, np.split(v, len(parts), axis=-2)):
                out[f"{blk}ffn_{part}{end}.weight"] = value
        else:
            theirs = fixed[leaf[-2]]
            if theirs == "ssm_conv1d" and leaf[-1] == "weight":
                v = v[:, 0]
            elif theirs == "ssm_norm":
                v = v.reshape(c.get("n_groups") or c["mamba_n_groups"], -1)
            elif c.get("turned", kind) in ("granitemoehybrid", "bamba") and theirs in heads:
                v = halves_in_turn(v, heads[theirs], share(c))
            out[f"{blk}{theirs}.{leaf[-1]}"] = v
    return factored(c, out) if kind == "falcon_h1" else out


def factored(c, w):
    """Falcon-H1 has its constant factors in its weights there."""
    z, g = c["mamba_d_ssm"], c["mamba_n_groups"] * c["mamba_d_state"]
    per_row = np.repeat(c["ssm_multipliers"], [z, z, g, g, c["mamba_n_heads"]])[:, None] * c["ssm_in_multiplier"]
    att = c["attention_in_multiplier"]
    by = {"ssm_in": per_row, "ssm_out": c["ssm_out_multiplier"], "attn_q": att, "attn_k": att * c["key_multiplier"],
          "attn_v": att, "attn_output": c["attention_out_multiplier"], "ffn_gate": c["mlp_multipliers"][0],
          "ffn_down": c["mlp_multipliers"][1], "token_embd": c["embedding_multiplier"], "output": c["lm_head_multiplier"]}
    return {n: v * by.get(n.split(".")[-2] if "." in n else n, 1.0) for n, v in w.items()}


def theirs(c, w, back):
    """The weights of a family again, from what a file holds."""
    out = {}
    inverse = factored(c, {n: np.ones(v.shape) for n, v in back.items()}) if c["model_type"] == "falcon_h1" else None
    for name, v in w.items():
        probe = ours({**c, "turned": None, "model_type": "plain"}, {name: np.arange(v.size, dtype=float).reshape(v.shape)})
        if name.endswith("A_log"):
            out[name] = np.log(-back[next(iter(probe))][:, 0])
            continue
        flat = np.empty(v.size)
        for there, places in probe.items():
            value = back[there]
            if c["model_type"] in ("granitemoehybrid", "bamba") and there.split(".")[-2] in ("attn_q", "attn_k"):
                n = c["num_attention_heads" if there.split(".")[-2] == "attn_q" else "num_key_value_heads"]
                rows = halves_in_turn(np.arange(v.shape[0])[:, None], n, share(c))[:, 0]
                value = value[np.argsort(rows)]
            if inverse is not None:
                value = value / inverse[there]
            given = places >= 0
            flat[places[given].astype(int)] = value[given]
        out[name] = flat.reshape(v.shape)
    return out


def metadata(f, arch, c, for_llama):
    """The keys that llama.cpp asks for."""
    layers = c.get("layers_block_type") or c.get("layer_types") or [
        "attention" if i in (c.get("attn_layer_indices") or ()) else "mamba" for i in range(c["num_hidden_layers"])]
    pick = lambda *keys: next(c[k] for k in keys if c.get(k) is not None)
    attends = [t in ("attention", "full_attention") for t in layers]
    heads = pick("mamba_n_heads", "mamba_num_heads", "num_heads")
    f.add_context_length(4096)
    f.add_embedding_length(c["hidden_size"])
    f.add_block_count(len(layers))
    f.add_vocab_size(c["vocab_size"])
    f.add_ssm_conv_kernel(pick("mamba_d_conv", "conv_kernel"))
    f.add_ssm_inner_size(c.get("mamba_d_ssm") or heads * pick("mamba_d_head", "mamba_head_dim", "head_dim"))
    f.add_ssm_state_size(pick("mamba_d_state", "ssm_state_size", "state_size"))
    f.add_ssm_time_step_rank(heads)
    f.add_ssm_group_count(pick("mamba_n_groups", "n_groups"))
    f.add_layer_norm_rms_eps(pick("rms_norm_eps", "layer_norm_epsilon"))
    f.add_layer_norm_eps(pick("rms_norm_eps", "layer_norm_epsilon"))
    kv, q = c.get("num_key_value_heads"), c.get("num_attention_heads", 0)
    # It says 0 for mamba2, which some versions of llama.cpp take for the heads of the mixer.
    f.add_head_count(q or (heads if for_llama else 0))
    if arch == "mamba2":
        f.add_feed_forward_length(0)
    elif arch == "falcon-h1":
        f.add_feed_forward_length(c["intermediate_size"])
        f.add_head_count_kv(kv)
    else:
        f.add_head_count_kv([kv if a else 0 for a in attends])
    if arch in ("falcon-h1", "nemotron_h", "nemotron_h_moe"):
        f.add_key_length(c["head_dim"])
        f.add_value_length(c["head_dim"])
    if arch == "nemotron_h":
        f.add_feed_forward_length([c["intermediate_size"] if t == "mlp" else 0 for t in layers])
    if arch == "nemotron_h_moe":
        f.add_feed_forward_length([c["moe_intermediate_size"] if t == "moe" else 0 for t in layers])
        f.add_expert_used_count(c["num_experts_per_tok"])
        f.add_expert_feed_forward_length(c["moe_intermediate_size"])
        f.add_expert_shared_feed_forward_length(c["moe_shared_expert_intermediate_size"])
        f.add_expert_count(c["n_routed_experts"])
        f.add_expert_shared_count(1)
        f.add_expert_weights_norm(c["norm_topk_prob"])
        f.add_expert_weights_scale(c["routed_scaling_factor"])
        f.add_expert_group_count(c["n_group"])
        f.add_moe_latent_size(c["moe_latent_size"])
    if arch in ("falcon-h1", "granitehybrid"):
        f.add_rope_freq_base(reference.rope_cfg(c)[0])
    if c["model_type"] == "bamba":
        f.add_feed_forward_length(c["intermediate_size"])
        f.add_rope_scaling_finetuned(True)
        f.add_rope_dimension_count(c["hidden_size"] // q // 2)
    elif arch == "granitehybrid":
        f.add_feed_forward_length(c["intermediate_size"])
        f.add_attention_scale(c["attention_multiplier"])
        f.add_embedding_scale(c["embedding_multiplier"])
        f.add_residual_scale(c["residual_multiplier"])
        f.add_logit_scale(c["logits_scaling"])
        f.add_rope_scaling_finetuned(c["position_embedding_type"] == "rope")
        f.add_rope_dimension_count(c["hidden_size"] // q)
        if c["num_local_experts"]:
            f.add_expert_count(c["num_local_experts"])
            f.add_expert_used_count(c["num_experts_per_tok"])
            f.add_expert_shared_feed_forward_length(c["shared_intermediate_size"])


TEXT = "The quick brown fox jumps over the lazy dog. The dog isn't lazy; it's 1234567 years old!\n\n  Then the fox naps. "
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


def add_tokenizer(f, vocab, real):
    """A byte-level tokenizer trained on a sentence; elsewhere tokens that are never looked at."""
    if not real:
        f.add_tokenizer_model("gpt2")
        f.add_tokenizer_pre("gpt-2")
        f.add_token_list(["t", "0", "t0"] + [f"t{i}" for i in range(3, vocab)])
        f.add_token_types([1] * vocab)
        f.add_token_merges(["t 0"])
        f.add_eos_token_id(0)
        f.add_bos_token_id(0)
        return None
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>"]
    t.train_from_iterator([TEXT] * 20, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False))
    body = json.loads(t.to_str())
    tokens = {i: s for s, i in body["model"]["vocab"].items()}
    size = len(tokens)
    f.add_tokenizer_model("gpt2")
    f.add_tokenizer_pre("gpt-2")
    f.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(vocab)])
    f.add_token_types([3 if tokens.get(i) in special else 1 if i < size else 5 for i in range(vocab)])
    f.add_token_merges([" ".join(m) for m in body["model"]["merges"]])
    f.add_eos_token_id(0)
    f.add_bos_token_id(0)
    f.add_add_bos_token(False)
    f.add_chat_template(TEMPLATE)
    texts = [TEXT, "<|user|>It's 42  dogs\tnaïve ☃<|end|>", "don't  \n stop"]
    return {"texts": texts, "ids": [t.encode(x).ids for x in texts]}


def write(path, arch, c, w, types, with_tokenizer, for_llama=False):
    """A file, and the model that gguf reads back from it."""
    f, back = gguf.GGUFWriter(path, arch), {}
    metadata(f, arch, c, for_llama)
    tok = add_tokenizer(f, c["vocab_size"], with_tokenizer)
    for there, v in ours(c, w).items():
        matrix = there.endswith(".weight") and "norm" not in there and "conv1d" not in there and v.ndim > 1
        kind = next(k for end, k in types if end in there) if matrix else Q.F32
        data = store(v, kind) if kind not in (Q.F32, Q.F16) else v.astype({Q.F32: "<f4", Q.F16: "<f2"}[kind])
        f.add_tensor(there, data, raw_dtype=kind if kind not in (Q.F32, Q.F16) else None)
        numbers = gguf.quants.dequantize(data, kind)
        if kind in (Q.Q4_K, Q.Q6_K):
            numbers = numbers.astype(np.float16)
        back[there] = numbers.astype(float).reshape(v.shape)
    f.write_header_to_file()
    f.write_kv_data_to_file()
    f.write_tensors_to_file()
    f.close()
    return tok, reference.Model(c, theirs(c, w, back))


def safe_prompt(name, length, vocab, model):
    """A prompt after which no step of the greedy continuation is near a tie."""
    for attempt in range(200):
        seq = rng("gguf", name, length, attempt).integers(3, vocab, length).tolist()
        margins = []
        for _ in range(8):
            logits, _ = model.forward(seq, 0)
            best = np.sort(logits[-1])
            margins.append(best[-1] - best[-2])
            seq.append(int(logits[-1].argmax()))
        if min(margins) >= 0.02:
            return seq[:length], seq[length:], logits
    raise RuntimeError(f"{name}, {length} tokens: no prompt with safe margins")


def make(name, out, llama, seed):
    cls, cfg, gains = MODELS[name]
    arch = "nemotron_h_moe" if name == "nemotron_h_moe" else name.split("_moe")[0].split("_bamba")[0]
    d = os.path.join(out, name)
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    with tempfile.TemporaryDirectory() as tmp:
        folder = os.path.join(tmp, "hf")
        build(T(name=name, cls=cls, cfg=cfg, wset="gguf/" + name, gains=gains, style="hf5"), seed, folder)
        c, w = load_config(folder), load_weights(folder)
        if c["model_type"] == "granitemoehybrid":
            c["layer_types"] = ["attention" if "att" in t and "linear" not in t else "mamba" for t in c["layer_types"]]
        if "layers_block_type" in c:
            c["layers_block_type"] = [{"linear_attention": "mamba", "full_attention": "attention"}.get(t, t)
                                      for t in c["layers_block_type"]]
        path, real = os.path.join(d, "model.gguf"), name == "granitehybrid"
        plain, same = (os.path.join(d, x) for x in ("f32.gguf", "same.gguf"))
        _, exact = write(plain, arch, c, w, [("", Q.F32)], real, True)
        write(same, arch, c, w, TYPES[name], real, True)
        tok, model = write(path, arch, c, w, TYPES[name], real)
    gold, prompts, worst = {}, {}, [0.0, 0.0]
    for length in (1, 17):
        ids, greedy, logits = safe_prompt(f"{name}/{seed}", length, c["vocab_size"], model)
        if llama:
            for i, (file, m) in enumerate([(plain, exact), (same, model)]):
                off = np.abs(llama_logits(file, ids) - m.forward(ids, 0)[0]).max()
                worst[i] = max(worst[i], float(off))
        gold[f"len{length}.ids"] = np.array(ids, dtype=np.int64)
        gold[f"len{length}.logits"] = np.ascontiguousarray(logits[:length], dtype=np.float32)
        prompts[f"len{length}"] = {"length": length, "greedy": greedy}
    os.remove(plain)
    os.remove(same)
    # In f32 the two compute the same; with other types llama.cpp rounds what it multiplies with as well.
    # Where that changes which experts are best, it changes more.
    if not (worst[0] <= 1e-3 and worst[1] <= (2.0 if "_moe" in name else 0.5)):
        raise RuntimeError(f"{name}: {worst} from llama.cpp")
    save_file(gold, os.path.join(d, "golden.safetensors"))
    meta = {"options": {"attention_bound": None}, "prompts": prompts, "source": "reference.py on what gguf reads"}
    if tok:
        meta["tokenizer"] = tok
    write_json(os.path.join(d, "golden.json"), meta)
    size = sum(os.path.getsize(os.path.join(d, x)) for x in os.listdir(d))
    print(f"{name:20s} {size / 1024:6.0f} KiB" + (", {:.1e} in f32 and {:.1e} from llama.cpp".format(*worst) if llama else ""), flush=True)


def llama_logits(path, ids):
    """In a process of its own: two runtimes of threads do not get along."""
    code = """
import sys, json, numpy as np, cyllama.llama.llama_cpp as C
class Model(C.LlamaModel):                        # its own bindings ask for it
    n_vocab = property(lambda self: self.get_vocab().n_vocab)
C.disable_logging()
ids, p, c = json.loads(sys.argv[2]), C.LlamaModelParams(), C.LlamaContextParams()
p.use_extra_bufts, p.n_gpu_layers = False, 0      # weights as they are, not repacked
c.n_ctx, c.n_batch, c.n_ubatch, c.n_threads, c.n_threads_batch, c.type_k, c.type_v, c.flash_attn_type = 128, 64, 64, 1, 1, 0, 0, 0
m = Model(sys.argv[1], p, verbose=False)
x, b = C.LlamaContext(m, c, verbose=False), C.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1, verbose=False)
for i, t in enumerate(ids):
    b.add(t, i, [0], True)
x.decode(b)
np.save(sys.argv[3], np.array([x.get_logits_ith(i) for i in range(len(ids))], dtype=np.float32))
"""
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "logits.npy")
        subprocess.run([sys.executable, "-c", code, path, json.dumps(ids), out], check=True, stderr=subprocess.DEVNULL)
        return np.load(out)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("--llama", action="store_true")
    ap.add_argument("--seed", type=int, default=SEED)
    a = ap.parse_args()
    for model in MODELS:
        make(model, a.out, a.llama, a.seed)
