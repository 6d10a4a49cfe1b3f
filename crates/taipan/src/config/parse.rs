//! From JSON to a checked [`Config`]: which family it is, and what all families share.

use serde_json::Value;

use super::section::{Section, invalid, invalid_text};
use super::{Config, bamba, falcon, granite, mamba2, nemotron, state_spaces, taipan, zamba2};
use crate::description::PAGE;
use crate::error::{CONFIG_FILE, Error, Result};

/// Ceilings far above any model of this family, and low enough that no product of two sizes overflows 64 bits.
pub(super) const MAX_VOCAB: usize = 1 << 24;
pub(super) const MAX_WIDTH: usize = 1 << 16;
pub(super) const MAX_LAYERS: usize = 1024;
pub(super) const MAX_WINDOW: usize = 1 << 20;
pub(super) const MAX_INTERMEDIATE: usize = 1 << 20;
/// Channels of an attention head: what the kernel's workgroup memory holds.
pub(super) const MAX_ATTENTION_HEAD: usize = 256;
/// Experts of a layer, and those that a token goes to.
pub(super) const MAX_EXPERTS: usize = 1024;
pub(super) const MAX_TOP: usize = 32;
/// A single tensor or state buffer stays below 4 GiB of f32, so its byte count fits a 32-bit `usize` as well.
pub(super) const MAX_ELEMENTS: u64 = (1 << 30) - 1;

pub(super) fn config(bytes: &[u8]) -> Result<Config> {
    let value = json(bytes)?;
    let Value::Object(map) = value else {
        return Err(invalid("(the whole file)", &value, "an object"));
    };
    let root = Section { name: "", map: &map };
    let config = family(&root)?;
    check_products(&config)?;
    Ok(config)
}

/// Python writes an infinite number as a bare word, which is not JSON.
fn json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).or_else(|source| {
        let spelled = std::str::from_utf8(bytes).ok().and_then(spell_infinity);
        let value = spelled.and_then(|text| serde_json::from_str(&text).ok());
        value.ok_or(Error::Json { file: CONFIG_FILE.to_owned(), source })
    })
}

/// The text with every bare `Infinity` written as newer files do; none if there is no such word.
fn spell_infinity(text: &str) -> Option<String> {
    const WORD: &str = "Infinity";
    let (mut out, mut rest, mut found) = (String::with_capacity(text.len()), text, false);
    while let Some(at) = rest.find(['"', 'I']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(string) = from.strip_prefix('"') {
            let (string, after) = string.split_at(string_end(string)?);
            out.extend(["\"", string]);
            rest = after;
        } else {
            rest = from.strip_prefix(WORD)?;
            out.push_str(r#"{"__float__":"Infinity"}"#);
            found = true;
        }
    }
    out.push_str(rest);
    found.then_some(out)
}

/// Bytes of a string up to and with the quote that ends it.
fn string_end(string: &str) -> Option<usize> {
    let mut escaped = false;
    let end = string.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(end + 1)
}

/// The original Mamba-2 checkpoints name no type; their section of the mixer gives them away.
fn family(root: &Section<'_>) -> Result<Config> {
    if let Some(value) = root.optional("quantization_config") {
        let allowed = "none: weights that other tools quantised are not read";
        return Err(invalid("quantization_config", value, allowed));
    }
    if root.optional("model_type").is_none() && root.map.contains_key("ssm_cfg") {
        return state_spaces::config(root);
    }
    match root.required("model_type")? {
        Value::String(name) => match name.as_str() {
            "taipan" => taipan::config(root),
            "mamba2" => mamba2::config(root),
            "granitemoehybrid" => granite::config(root),
            "bamba" => bamba::config(root),
            "falcon_h1" => falcon::config(root),
            "nemotron_h" => nemotron::config(root),
            "zamba2" => zamba2::config(root),
            _ => Err(Error::UnsupportedModel { file: CONFIG_FILE.to_owned(), model_type: name.clone() }),
        },
        other => Err(invalid("model_type", other, "a string")),
    }
}

pub(super) fn bos(root: &Section<'_>, vocab: usize) -> Result<Option<u32>> {
    let value = root.map.get("bos_token_id").filter(|v| !v.is_null());
    value.map(|v| token("bos_token_id", v, vocab)).transpose()
}

/// The ids that end a text.
pub(super) fn eos(root: &Section<'_>, vocab: usize) -> Result<Vec<u32>> {
    root.optional("eos_token_id").map_or_else(|| Ok(Vec::new()), |value| token_ids("eos_token_id", value, vocab))
}

/// One id or a list of them, in ascending order without repeats.
pub(crate) fn token_ids(key: &str, value: &Value, vocab: usize) -> Result<Vec<u32>> {
    let mut ids = match value {
        Value::Array(ids) => ids.iter().map(|id| token(key, id, vocab)).collect::<Result<_>>()?,
        id => vec![token(key, id, vocab)?],
    };
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn token(key: &str, value: &Value, vocab: usize) -> Result<u32> {
    let id = value.as_u64().filter(|&id| id < vocab as u64).and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| invalid(key, value, &format!("a token id below vocab_size = {vocab}")))
}

/// Each size may be fine alone and absurd together with another.
fn check_products(config: &Config) -> Result<()> {
    for (name, shape) in config.expected_tensors() {
        limit_elements(&format!("the shape of {name}"), &shape)?;
    }
    if let Some(m) = &config.mamba2 {
        limit_elements("the state of a mamba2 layer", &[m.d_inner(), m.d_state])?;
    }
    if let Some(e) = &config.experts {
        let (width, rows) = (e.latent.unwrap_or(config.hidden_size), e.expert.up_rows());
        if !width.is_multiple_of(2) || !rows.is_multiple_of(2) {
            let allowed = "even widths, because experts lie one upon the other";
            return Err(invalid_text("(experts)", format!("{rows} rows up, {width} down"), allowed));
        }
    }
    if let Some(a) = &config.attention {
        limit_elements("a page of keys and values", &[PAGE, 2, a.kv_width()])?;
    }
    if let Some(s) = &config.selective_attention {
        limit_elements("the window of a selective_attention layer", &[s.window, 2, s.kv_width()])?;
    }
    Ok(())
}

fn limit_elements(what: &str, shape: &[usize]) -> Result<()> {
    let elements = shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim as u64));
    match elements {
        Some(n) if n <= MAX_ELEMENTS => Ok(()),
        _ => {
            let found = format!("{shape:?}");
            let allowed = format!("at most {MAX_ELEMENTS} elements in one tensor");
            Err(invalid_text(what, found, &allowed))
        }
    }
}
