#!/usr/bin/env python3
"""Vocabularies as a GGUF file has them, and the ids that llama.cpp (package cyllama) makes of texts with them.

    tokens.py OUT.json

Kinds of `tokenizer.ggml.pre` with the same ids are one case. Of tekken, whose pattern llama.cpp only approximates, the ids
are those of the tokenizers package.
"""
import io
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PRES = [None, "default", "gpt-2", "mpt", "olmo", "phi-2", "jais", "granite-docling", "starcoder", "refact", "command-r", "smollm",
        "codeshell", "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2", "dbrx", "smaug-bpe",
        "qwen2", "stablelm2"]
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}"
          r"\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CORPUS = ("I'll say it's 12345 o'clock, DON'T you? The $quick$ brownFox (isn't) jumping 1000000 times;\n\n  and then... it\twon't. "
          "Naïve café für Straße. Price: 99.95 €, 2+2=4, a<b>c. XMLHttpRequest HELLO World 2024-05-06\r\n    indented code();\n")
TEXTS = [
    "a", "Hello world", "I'LL say it's DON'T they've 'RE", "12345678 and 007, 3.14159 x1y22z333", "  two  spaces   and a tab\t\tend  ",
    "line\n\nends\r\n\r\n  \n and more \n", "naïve café Straße ÉCOLE ÄÖÜ ñandú", "日本語の文字 and 한국어 + русский текст",
    "emoji 🐍🧑‍🚀 and ☃!!!??? -- ... $$$ <<a>>", "XMLHttpRequest fooBarBAZ_qux CamelCase", "<s>special</s> in<|end|>side   <unk>x",
    "<pad-run>user    defined", " leading and trailing ", "\n", " ", "", "\u00a0nbsp\u2003em ١٢٣ ½ x²", "a<b>c 2+2=4 ~|~ `code` ^", "1000000 $q$ costs .5 $quick$",
]


def bpe():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<|end|>", "<pad-run>", "    "]
    # Untrained by words, so that pieces which one pattern keeps together merge over the places where another cuts.
    t.train_from_iterator([CORPUS[i:i + 40] for i in range(0, len(CORPUS), 7)], trainers.BpeTrainer(
        vocab_size=430, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    body = json.loads(t.to_str())["model"]
    tokens = [k for k, _ in sorted(body["vocab"].items(), key=lambda kv: kv[1])]
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3, "<|end|>": 3, "<pad-run>": 4, "    ": 4}
    return {"tokens": tokens, "types": [kinds.get(x, 1) for x in tokens], "merges": [" ".join(m) for m in body["merges"]]}


def spm():
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines() * 5), model_writer=out, vocab_size=380, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, user_defined_symbols=["<pad-run>"], normalization_rule_name="identity", minloglevel=2,
        remove_extra_whitespaces=False)
    m = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    ids = range(m.vocab_size())
    kind = lambda i: 2 if m.is_unknown(i) else 3 if m.is_control(i) else 6 if m.is_byte(i) else 4 if m.id_to_piece(i) == "<pad-run>" else 1
    return {"tokens": [m.id_to_piece(i) for i in ids], "scores": [m.get_score(i) for i in ids], "types": [kind(i) for i in ids]}, m


def write(path, vocab, pre, **flags):
    f = gguf.GGUFWriter(path, "llama")
    f.add_context_length(64)
    f.add_embedding_length(32)
    f.add_block_count(1)
    f.add_feed_forward_length(32)
    f.add_head_count(1)
    f.add_layer_norm_rms_eps(1e-5)
    f.add_tokenizer_model("llama" if "scores" in vocab else "gpt2")
    if pre:
        f.add_tokenizer_pre(pre)
    f.add_token_list(vocab["tokens"])
    f.add_token_types(vocab["types"])
    f.add_bos_token_id(1)
    f.add_eos_token_id(2)
    if "scores" in vocab:
        f.add_token_scores(vocab["scores"])
    else:
        f.add_token_merges(vocab["merges"])
    for key, value in flags.items():
        f.add_bool("tokenizer.ggml." + key, value)
    # It reads vocabularies of models only.
    shapes = {"token_embd.weight": (len(vocab["tokens"]), 32), "output_norm.weight": (32,)}
    shapes.update({f"blk.0.{x}_norm.weight": (32,) for x in ("attn", "ffn")})
    shapes.update({f"blk.0.{x}.weight": (32, 32) for x in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")})
    for name, shape in shapes.items():
        f.add_tensor(name, np.zeros(shape, np.float32))
    f.write_header_to_file()
    f.write_kv_data_to_file()
    f.write_tensors_to_file()
    f.close()


def llama(vocab, pre, **flags):
    """Ids of each text by itself, and of the first as a prompt. In a process of its own."""
    code = """
import sys, json, cyllama.llama.llama_cpp as C
C.disable_logging()
p = C.LlamaModelParams(); p.n_gpu_layers = 0
m = C.LlamaModel(sys.argv[1], p, verbose=False); v = m.get_vocab(); texts = json.load(open(sys.argv[2]))
print(json.dumps([[list(v.tokenize(t, False, True)) if t else [] for t in texts], list(v.tokenize(texts[0], True, True))]))
"""
    with tempfile.TemporaryDirectory() as tmp:
        path, texts = os.path.join(tmp, "v.gguf"), os.path.join(tmp, "t.json")
        write(path, vocab, pre, **flags)
        with open(texts, "w") as f:
            json.dump(TEXTS, f)
        run = subprocess.run([sys.executable, "-c", code, path, texts], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return json.loads(run.stdout)


def main():
    b, (s, sp) = bpe(), spm()
    cases = {}
    for pre in PRES:
        ids, prompt = llama(b, pre)
        cases.setdefault(json.dumps([ids, prompt]), []).append(pre)
    out = {"texts": TEXTS, "bpe": b, "spm": s, "cases": []}
    for key, pres in cases.items():
        ids, prompt = json.loads(key)
        out["cases"].append({"vocab": "bpe", "pre": pres, "flags": {}, "ids": ids, "prompt": prompt})
    for flags in [{"add_bos_token": True}, {"add_bos_token": False, "add_eos_token": False}]:
        ids, prompt = llama(b, "falcon-h1", **flags)
        out["cases"].append({"vocab": "bpe", "pre": ["falcon-h1"], "flags": flags, "ids": ids, "prompt": prompt})
    for flags in [{}, {"add_space_prefix": False, "add_bos_token": False}]:
        ids, prompt = llama(s, "default", **flags)
        out["cases"].append({"vocab": "spm", "pre": ["default"], "flags": flags, "ids": ids, "prompt": prompt})
    plain = [t for t in TEXTS if "<" not in t and not t.startswith(" ")]
    assert all(sp.encode(t) == i for t, i in zip(TEXTS, out["cases"][-2]["ids"]) if t in plain and t), "sentencepiece disagrees"
    t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(b["tokens"])}, merges=[tuple(m.split(" ")) for m in b["merges"]],
                             ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(TEKKEN), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    for token, kind in zip(b["tokens"], b["types"]):
        if kind in (2, 3):
            t.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == 4:
            t.add_tokens([AddedToken(token, normalized=False)])
    ids = [t.encode(x, add_special_tokens=False).ids for x in TEXTS]
    out["cases"].append({"vocab": "bpe", "pre": ["tekken"], "flags": {}, "ids": ids, "prompt": [1] + ids[0]})
    with open(sys.argv[1], "w") as f:
        f.write(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")
    for case in out["cases"]:
        print(case["vocab"], case["pre"], case["flags"], case["prompt"])


if __name__ == "__main__":
    main()
