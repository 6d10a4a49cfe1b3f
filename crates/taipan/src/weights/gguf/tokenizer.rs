//! The tokenizer.json that the metadata of a GGUF file stands for.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::header::{Header, Value, problem};
use super::{flag, integer, text};
use crate::weights::WeightsProblem as Problem;

/// Types of tokens: what stands for unknown text, of control, added by the user.
const UNKNOWN: i128 = 2;
const CONTROL: i128 = 3;
const USER: i128 = 4;

/// Tokens of control that end a turn or a text in the models of these architectures, also where a file does not say so.
const ENDS: [&str; 6] = ["<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>", "</s>"];

/// How GPT-2 cuts a text: contractions, letters, digits, everything else, white space.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Runs of punctuation by themselves, then as GPT-2, then at most three digits: where a file does not say how.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];
/// As GPT-2 with at most three digits, line ends of their own, and contractions in capitals.
const THREE_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Every digit alone.
const ONE_DIGIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words end where capitals begin.
const CAPITALS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// How a text is cut before pairs are merged.
struct Cut {
    patterns: &'static [&'static str],
    /// Whether a piece that is a token stays one.
    whole: bool,
    /// Whether a BOS comes first unless the file says otherwise.
    bos: bool,
}

fn cut(pre: &str) -> Option<Cut> {
    let (patterns, llama): (&[&str], bool) = match pre {
        "default" => (&DEFAULT, false),
        "gpt-2" | "mpt" | "olmo" | "phi-2" | "jais" | "granite-docling" => (&[GPT2], false),
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" => (&[DIGIT, GPT2], false),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "lfm2" => (&[THREE_DIGITS], true),
        "dbrx" | "smaug-bpe" => (&[THREE_DIGITS], false),
        "qwen2" | "stablelm2" => (&[ONE_DIGIT], false),
        "tekken" => (&[CAPITALS], true),
        _ => return None,
    };
    Some(Cut { patterns, whole: llama, bos: llama })
}

pub(super) fn json(header: &Header<'_>) -> Result<Option<Json>, Problem> {
    let Some(model) = text(header, "tokenizer.ggml.model") else { return Ok(None) };
    if ["no_vocab", "none"].contains(&model) {
        return Ok(None);
    }
    let tokens = texts(header, "tokenizer.ggml.tokens")?;
    let (mut out, bos) = match model {
        "gpt2" => merged(header, tokens)?,
        // Those with scores have a BOS unless the file says otherwise.
        "llama" => (scored(header, tokens)?, true),
        _ => return Err(problem(format!("its tokenizer.ggml.model is {model}; this build knows gpt2 and llama"))),
    };
    out.insert("version".into(), json!("1.0"));
    out.insert("added_tokens".into(), json!(added(header, tokens)?));
    out.insert("post_processor".into(), post_processor(header, tokens, bos));
    Ok(Some(Json::Object(out)))
}

/// Ids of tokens that end a turn or a text by their spelling.
pub(super) fn ends(header: &Header<'_>) -> Vec<u64> {
    let (Ok(tokens), Ok(types)) = (texts(header, "tokenizer.ggml.tokens"), types(header)) else { return Vec::new() };
    let is_end = |(_, (kind, token)): &(u64, (i128, &&str))| *kind == CONTROL && ENDS.contains(token);
    (0..).zip(types.into_iter().zip(tokens)).filter(is_end).map(|(id, _)| id).collect()
}

/// The template of a chat and the tokens that it may name.
pub(super) fn config(header: &Header<'_>) -> Json {
    let tokens = texts(header, "tokenizer.ggml.tokens").unwrap_or_default();
    let token = |name: &str| {
        let id = integer(header, &format!("tokenizer.ggml.{name}_token_id")).and_then(|id| usize::try_from(id).ok())?;
        tokens.get(id).copied()
    };
    let mut out = Map::new();
    for (ours, theirs) in
        [("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"), ("unk_token", "unknown")]
    {
        if let Some(token) = token(theirs) {
            out.insert(ours.to_owned(), json!(token));
        }
    }
    if let Some(template) = text(header, "tokenizer.chat_template") {
        out.insert("chat_template".to_owned(), json!(template));
    }
    Json::Object(out)
}

pub(super) fn texts<'h, 'a>(header: &'h Header<'a>, key: &str) -> Result<&'h [&'a str], Problem> {
    match header.metadata.get(key) {
        Some(Value::Texts(texts)) => Ok(texts),
        Some(_) => Err(problem(format!("{key} is no list of texts"))),
        None => Err(problem(format!("{key} is missing"))),
    }
}

/// The type of each token; none where the file does not tell.
fn types(header: &Header<'_>) -> Result<Vec<i128>, Problem> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(list) = header.metadata.get(KEY) else { return Ok(Vec::new()) };
    let number = |value| match value {
        Value::Integer(n) => Some(n),
        _ => None,
    };
    let types = list.numbers().and_then(|numbers| numbers.map(number).collect());
    types.ok_or_else(|| problem(format!("{KEY} is no list of integers")))
}

fn vocabulary(tokens: &[&str]) -> Map<String, Json> {
    // The first of several that are spelled alike is the one a text can become.
    let mut out = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        out.entry(*token).or_insert_with(|| json!(id));
    }
    out
}

/// Byte-level tokens that pairs of others merge to, in the order of a list; and whether a BOS comes first.
fn merged(header: &Header<'_>, tokens: &[&str]) -> Result<(Map<String, Json>, bool), Problem> {
    let merges = texts(header, "tokenizer.ggml.merges")?;
    let pre = text(header, "tokenizer.ggml.pre").unwrap_or("default");
    let cut = cut(pre)
        .ok_or_else(|| problem(format!("tokenizer.ggml.pre is {pre}: this build does not know how it cuts a text")))?;
    let split = |p: &&str| json!({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": false});
    let mut steps: Vec<Json> = cut.patterns.iter().map(split).collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    steps.push(bytes.clone());
    let body = object(json!({
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": cut.whole,
            "vocab": vocabulary(tokens), "merges": merges,
        },
    }));
    Ok((body, cut.bos))
}

/// Tokens with scores, as SentencePiece has them: the pair that makes the token of the highest score is merged first.
fn scored(header: &Header<'_>, tokens: &[&str]) -> Result<Map<String, Json>, Problem> {
    const KEY: &str = "tokenizer.ggml.scores";
    let number = |value| match value {
        Value::Float(x) => Some(x),
        _ => None,
    };
    let list = header.metadata.get(KEY).filter(|list| list.len() == Some(tokens.len()));
    let scores: Option<Vec<f64>> = list.and_then(Value::numbers).and_then(|numbers| numbers.map(number).collect());
    let scores = scores.ok_or_else(|| problem(format!("{KEY} is no list of a number for each token")))?;
    let mut ids = HashMap::new();
    for (id, token) in tokens.iter().enumerate() {
        ids.entry(*token).or_insert(id);
    }
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        // No merge makes a token of more than this; it also bounds the work that a stranger's file can ask for.
        const LONGEST: usize = 256;
        for (at, _) in token.char_indices().skip(1).take(LONGEST) {
            let (left, right) = token.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                merges.push((id, *l, *r, left, right));
            }
        }
    }
    merges.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then((a.0, a.1, a.2).cmp(&(b.0, b.1, b.2))));
    let merges: Vec<[&str; 2]> = merges.into_iter().map(|(.., left, right)| [left, right]).collect();
    let space = flag(header, "tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let unknown = integer(header, "tokenizer.ggml.unknown_token_id").and_then(|id| tokens.get(id as usize));
    let mut before = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut after = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if space {
        before.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        after.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(object(json!({
        "normalizer": {"type": "Sequence", "normalizers": before},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": after},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(tokens), "merges": merges,
        },
    })))
}

/// Tokens that are found in a text before it is cut.
fn added(header: &Header<'_>, tokens: &[&str]) -> Result<Vec<Json>, Problem> {
    let types = types(header)?;
    if !types.is_empty() && types.len() != tokens.len() {
        return Err(problem(format!("{} types of tokens for {} tokens", types.len(), tokens.len())));
    }
    let all = types.iter().zip(tokens).enumerate().filter_map(|(id, (kind, token))| {
        let special = match *kind {
            CONTROL | UNKNOWN => true,
            USER => false,
            _ => return None,
        };
        Some(json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": special,
        }))
    });
    Ok(all.filter(|token| token["content"] != "").collect())
}

/// What comes in front of a text, and behind it, where the file says so.
fn post_processor(header: &Header<'_>, tokens: &[&str], bos: bool) -> Json {
    let token = |name: &str, default: bool| {
        let wanted = flag(header, &format!("tokenizer.ggml.add_{name}_token")).unwrap_or(default);
        let id = integer(header, &format!("tokenizer.ggml.{name}_token_id")).filter(|_| wanted)?;
        Some((id, *tokens.get(usize::try_from(id).ok()?)?))
    };
    let (first, last) = (token("bos", bos), token("eos", false));
    if first.is_none() && last.is_none() {
        return Json::Null;
    }
    let special = |token: &Option<(u64, &str)>, kind: u32| {
        token.map(|(_, token)| json!({"SpecialToken": {"id": token, "type_id": kind}}))
    };
    let text = |id: &str, kind: u32| Some(json!({"Sequence": {"id": id, "type_id": kind}}));
    let list = |parts: Vec<Option<Json>>| parts.into_iter().flatten().collect::<Vec<_>>();
    let named = |(id, token): (u64, &str)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}));
    let tokens: Map<String, Json> = [first, last].into_iter().flatten().map(named).collect();
    json!({
        "type": "TemplateProcessing",
        "single": list(vec![special(&first, 0), text("A", 0), special(&last, 0)]),
        "pair": list(vec![special(&first, 0), text("A", 0), text("B", 1), special(&last, 1)]),
        "special_tokens": tokens,
    })
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => unreachable!("an object was written"),
    }
}
