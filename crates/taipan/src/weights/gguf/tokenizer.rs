//! The tokenizer.json that the metadata of a GGUF file stands for.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::header::{Header, Value, problem};
use super::{flag, integer, list, text};
use crate::weights::WeightsProblem as Problem;

/// Types of tokens: of control, added by the user, of one byte.
const CONTROL: i128 = 3;
const USER: i128 = 4;

/// How GPT-2 cuts a text: contractions, letters, digits, everything else, white space.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The same with at most three digits, line ends of their own, and contractions in capitals.
const THREE_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Every digit alone.
const ONE_DIGIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words end where capitals begin.
const CAPITALS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// How a text is cut before pairs are merged, and whether a piece that is a token stays one.
fn pieces(pre: &str) -> Option<(&'static [&'static str], bool)> {
    Some(match pre {
        "gpt-2" | "mpt" | "olmo" | "phi-2" | "granite-docling" => (&[GPT2], false),
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" => (&[DIGIT, GPT2], false),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "lfm2" => (&[THREE_DIGITS], true),
        "dbrx" | "smaug-bpe" => (&[THREE_DIGITS], false),
        "qwen2" | "stablelm2" => (&[ONE_DIGIT], false),
        "tekken" => (&[CAPITALS], true),
        _ => return None,
    })
}

pub(super) fn json(header: &Header<'_>) -> Result<Option<Json>, Problem> {
    let Some(model) = text(header, "tokenizer.ggml.model") else { return Ok(None) };
    let Some(tokens) = texts(header, "tokenizer.ggml.tokens")? else { return Ok(None) };
    let body = match model {
        "gpt2" => merged(header, &tokens)?,
        "llama" => scored(header, &tokens)?,
        "no_vocab" | "none" => return Ok(None),
        _ => return Err(problem(format!("its tokenizer is of the kind {model}; this build knows gpt2 and llama"))),
    };
    let mut out = body;
    out.insert("version".into(), json!("1.0"));
    out.insert("added_tokens".into(), json!(added(header, &tokens)?));
    out.insert("post_processor".into(), post_processor(header, &tokens));
    Ok(Some(Json::Object(out)))
}

/// The template of a chat and the tokens that it may name.
pub(super) fn config(header: &Header<'_>) -> Json {
    let tokens = list(header, "tokenizer.ggml.tokens");
    let token = |name: &str| {
        let id = integer(header, &format!("tokenizer.ggml.{name}_token_id")).and_then(|id| usize::try_from(id).ok())?;
        match tokens?.get(id)? {
            Value::Text(text) => Some(*text),
            _ => None,
        }
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

fn texts<'a>(header: &Header<'a>, key: &str) -> Result<Option<Vec<&'a str>>, Problem> {
    let Some(list) = list(header, key) else { return Ok(None) };
    let one = |value: &Value<'a>| match value {
        Value::Text(text) => Some(*text),
        _ => None,
    };
    let texts: Option<Vec<&str>> = list.iter().map(one).collect();
    texts.map(Some).ok_or_else(|| problem(format!("{key} is no list of texts")))
}

fn vocabulary(tokens: &[&str]) -> Map<String, Json> {
    // The first of several that are spelled alike is the one a text can become.
    let mut out = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        out.entry(*token).or_insert_with(|| json!(id));
    }
    out
}

/// Byte-level tokens that pairs of others merge to, in the order of a list.
fn merged(header: &Header<'_>, tokens: &[&str]) -> Result<Map<String, Json>, Problem> {
    let merges = texts(header, "tokenizer.ggml.merges")?.ok_or_else(|| problem("tokenizer.ggml.merges is missing"))?;
    let pre = text(header, "tokenizer.ggml.pre").unwrap_or("gpt-2");
    let (patterns, whole) = pieces(pre)
        .ok_or_else(|| problem(format!("tokenizer.ggml.pre is {pre}: this build does not know how it cuts a text")))?;
    let split = |p: &&str| json!({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": false});
    let mut steps: Vec<Json> = patterns.iter().map(split).collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    steps.push(bytes.clone());
    Ok(object(json!({
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole,
            "vocab": vocabulary(tokens), "merges": merges,
        },
    })))
}

/// Tokens with scores, as SentencePiece has them: the pair that makes the token of the highest score is merged first.
fn scored(header: &Header<'_>, tokens: &[&str]) -> Result<Map<String, Json>, Problem> {
    let scores = list(header, "tokenizer.ggml.scores").filter(|scores| scores.len() == tokens.len());
    let scores = scores.ok_or_else(|| problem("tokenizer.ggml.scores is missing or not one for each token"))?;
    let score = |id: usize| match scores[id] {
        Value::Float(x) => x,
        _ => 0.0,
    };
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
    merges.sort_by(|a, b| score(b.0).total_cmp(&score(a.0)).then((a.0, a.1, a.2).cmp(&(b.0, b.1, b.2))));
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
    let Some(types) = list(header, "tokenizer.ggml.token_type") else { return Ok(Vec::new()) };
    if types.len() != tokens.len() {
        return Err(problem(format!("{} types of tokens for {} tokens", types.len(), tokens.len())));
    }
    let all = types.iter().zip(tokens).enumerate().filter_map(|(id, (kind, token))| {
        let special = match kind {
            Value::Integer(CONTROL) => true,
            Value::Integer(USER) => false,
            _ => return None,
        };
        Some(json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": special,
        }))
    });
    Ok(all.filter(|token| token["content"] != "").collect())
}

/// What comes in front of a text where the file says so.
fn post_processor(header: &Header<'_>, tokens: &[&str]) -> Json {
    let wanted = flag(header, "tokenizer.ggml.add_bos_token");
    // Those with scores have it unless the file says otherwise.
    let wanted = wanted.unwrap_or_else(|| text(header, "tokenizer.ggml.model") == Some("llama"));
    let id = integer(header, "tokenizer.ggml.bos_token_id").filter(|_| wanted);
    let Some((id, token)) = id.and_then(|id| Some((id, *tokens.get(usize::try_from(id).ok()?)?))) else {
        return Json::Null;
    };
    let first = json!({"SpecialToken": {"id": token, "type_id": 0}});
    json!({
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    })
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => unreachable!("an object was written"),
    }
}
