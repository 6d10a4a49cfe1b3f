//! From JSON to a checked [`Config`].

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::{Config, LayerType, Mamba2Config, SalConfig};
use crate::error::{CONFIG_FILE, Error, Result};

/// Ceilings far above any model of this family, and low enough that no product of two sizes overflows 64 bits.
const MAX_VOCAB: usize = 1 << 24;
const MAX_WIDTH: usize = 1 << 16;
const MAX_LAYERS: usize = 1024;
const MAX_WINDOW: usize = 1 << 20;
const MAX_INTERMEDIATE: usize = 1 << 20;
/// Channels of an attention head: what the kernel's workgroup memory holds.
const MAX_ATTENTION_HEAD: usize = 256;
/// A single tensor or state buffer stays below 4 GiB of f32, so its byte count fits a 32-bit `usize` as well.
pub(super) const MAX_ELEMENTS: u64 = (1 << 30) - 1;

pub(super) fn config(bytes: &[u8]) -> Result<Config> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { file: CONFIG_FILE.to_owned(), source })?;
    let Value::Object(map) = value else {
        return Err(invalid("(the whole file)", &value, "an object"));
    };
    let root = Section { name: "", map: &map };
    model_type(&root)?;

    let vocab_size = root.size("vocab_size", 1..=MAX_VOCAB)?;
    let hidden_size = root.size("hidden_size", 1..=MAX_WIDTH)?;
    let layer_types = layer_types(&root)?;
    let wants = |kind| layer_types.contains(&kind);
    let config = Config {
        vocab_size,
        hidden_size,
        tie_word_embeddings: root.bool_or("tie_word_embeddings", true)?,
        rms_norm_eps: root.eps_or("rms_norm_eps")?,
        mamba2: section(&root, "mamba2", wants(LayerType::Mamba2), |s| mamba2(s, hidden_size))?,
        selective_attention: section(&root, "selective_attention", wants(LayerType::SelectiveAttention), attention)?,
        layer_types,
        bos_token_id: bos(&root, vocab_size)?,
        eos_token_ids: eos(&root, vocab_size)?,
        max_trained_length: root.optional_size("max_trained_length", 1..=1 << 30)?,
    };
    check_products(&config)?;
    Ok(config)
}

fn model_type(root: &Section<'_>) -> Result<()> {
    match root.required("model_type")? {
        Value::String(t) if t == "taipan" => Ok(()),
        Value::String(t) => Err(Error::UnsupportedModel { file: CONFIG_FILE.to_owned(), model_type: t.clone() }),
        other => Err(invalid("model_type", other, "a string")),
    }
}

fn layer_types(root: &Section<'_>) -> Result<Vec<LayerType>> {
    const ALLOWED: &str = "a list of 1 to 1024 entries, each \"mamba2\" or \"selective_attention\"";
    let value = root.required("layer_types")?;
    let Value::Array(entries) = value else {
        return Err(invalid("layer_types", value, ALLOWED));
    };
    if entries.is_empty() || entries.len() > MAX_LAYERS {
        let found = format!("a list of {} entries", entries.len());
        return Err(invalid_text("layer_types", found, ALLOWED));
    }
    let parse = |(i, entry): (usize, &Value)| match entry.as_str() {
        Some("mamba2") => Ok(LayerType::Mamba2),
        Some("selective_attention") => Ok(LayerType::SelectiveAttention),
        _ => Err(invalid(&format!("layer_types[{i}]"), entry, "\"mamba2\" or \"selective_attention\"")),
    };
    entries.iter().enumerate().map(parse).collect()
}

/// A section is required only when a layer uses it, but checked whenever it is there.
fn section<T>(
    root: &Section<'_>,
    name: &'static str,
    required: bool,
    parse: impl Fn(&Section<'_>) -> Result<T>,
) -> Result<Option<T>> {
    match root.map.get(name) {
        Some(Value::Object(map)) => parse(&Section { name, map }).map(Some),
        None | Some(Value::Null) if !required => Ok(None),
        None => Err(missing(name.to_owned())),
        Some(other) => Err(invalid(name, other, "an object")),
    }
}

fn mamba2(s: &Section<'_>, hidden: usize) -> Result<Mamba2Config> {
    let expand = s.size("expand", 1..=16)?;
    let head_dim = s.size("head_dim", 1..=1024)?;
    let d_inner = expand * hidden;
    if !d_inner.is_multiple_of(head_dim) {
        let allowed = format!("a divisor of expand × hidden_size = {d_inner}");
        return Err(invalid_text(&s.path("head_dim"), head_dim.to_string(), &allowed));
    }
    let heads = d_inner / head_dim;
    let n_groups = s.size("n_groups", 1..=heads)?;
    if !heads.is_multiple_of(n_groups) {
        let allowed = format!("a divisor of the number of heads, {heads}");
        return Err(invalid_text(&s.path("n_groups"), n_groups.to_string(), &allowed));
    }
    Ok(Mamba2Config {
        d_state: s.size("d_state", 1..=1024)?,
        d_conv: s.size("d_conv", 2..=8)?,
        expand,
        head_dim,
        n_groups,
        chunk_size: s.size_or("chunk_size", 1..=1 << 16, 256)?,
        conv_bias: s.bool_or("conv_bias", true)?,
        proj_bias: s.bool_or("proj_bias", false)?,
        time_step_limit: time_step_limit(s)?,
        norm_eps: s.eps_or("norm_eps")?,
    })
}

fn time_step_limit(s: &Section<'_>) -> Result<(f32, f32)> {
    const ALLOWED: &str = "[low, high] with 0 ≤ low ≤ high and high > 0, where high may be null for no limit";
    let Some(value) = s.map.get("time_step_limit").filter(|v| !v.is_null()) else {
        return Ok((0.0, f32::INFINITY));
    };
    let limits = match value.as_array().map(Vec::as_slice) {
        Some([lo, Value::Null]) => lo.as_f64().map(|lo| (lo as f32, f32::INFINITY)),
        Some([lo, hi]) => finite(hi).and_then(|hi| lo.as_f64().map(|lo| (lo as f32, hi))),
        _ => None,
    };
    limits
        .filter(|&(lo, hi)| lo >= 0.0 && lo.is_finite() && lo <= hi && hi > 0.0)
        // -0.0 passes the comparison above; it must not reach the canonical text.
        .map(|(lo, hi)| (lo.abs(), hi))
        .ok_or_else(|| invalid(&s.path("time_step_limit"), value, ALLOWED))
}

fn attention(s: &Section<'_>) -> Result<SalConfig> {
    let num_heads = s.size("num_heads", 1..=1024)?;
    let num_key_value_heads = s.size_or("num_key_value_heads", 1..=num_heads, num_heads)?;
    if !num_heads.is_multiple_of(num_key_value_heads) {
        let allowed = format!("a divisor of num_heads = {num_heads}");
        let found = num_key_value_heads.to_string();
        return Err(invalid_text(&s.path("num_key_value_heads"), found, &allowed));
    }
    let head_dim = s.size("head_dim", 1..=MAX_ATTENTION_HEAD)?;
    let rope_theta = s.optional_f64("rope_theta", |t| t > 0.0, "null or a positive number")?;
    if rope_theta.is_some() && !head_dim.is_multiple_of(2) {
        let allowed = "an even number, because rope_theta is set";
        return Err(invalid_text(&s.path("head_dim"), head_dim.to_string(), allowed));
    }
    Ok(SalConfig {
        num_heads,
        num_key_value_heads,
        head_dim,
        window: s.size("window", 1..=MAX_WINDOW)?,
        intermediate_size: s.size("intermediate_size", 1..=MAX_INTERMEDIATE)?,
        rope_theta,
        attention_budget: s.optional_f64(
            "attention_budget",
            |c| (0.0..=1.0).contains(&c),
            "null or a number from 0 to 1",
        )?,
    })
}

fn bos(root: &Section<'_>, vocab: usize) -> Result<Option<u32>> {
    let value = root.map.get("bos_token_id").filter(|v| !v.is_null());
    value.map(|v| token("bos_token_id", v, vocab)).transpose()
}

/// One id or a list of them, in ascending order without repeats.
fn eos(root: &Section<'_>, vocab: usize) -> Result<Vec<u32>> {
    const KEY: &str = "eos_token_id";
    let mut ids = match root.map.get(KEY) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) => ids.iter().map(|id| token(KEY, id, vocab)).collect::<Result<_>>()?,
        Some(id) => vec![token(KEY, id, vocab)?],
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
    let d = config.hidden_size;
    if let Some(m) = &config.mamba2 {
        limit_elements("the state of a mamba2 layer", &[m.d_inner(d), m.d_state])?;
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

/// An object of the file together with the path that leads to it.
struct Section<'a> {
    name: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn required(&self, key: &str) -> Result<&'a Value> {
        self.map.get(key).ok_or_else(|| missing(self.path(key)))
    }

    /// The value of an optional key; null counts as absent.
    fn optional(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn size(&self, key: &str, allowed: RangeInclusive<usize>) -> Result<usize> {
        self.to_size(key, self.required(key)?, allowed)
    }

    fn size_or(&self, key: &str, allowed: RangeInclusive<usize>, default: usize) -> Result<usize> {
        self.optional_size(key, allowed).map(|size| size.unwrap_or(default))
    }

    fn optional_size(&self, key: &str, allowed: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.optional(key).map(|v| self.to_size(key, v, allowed)).transpose()
    }

    fn to_size(&self, key: &str, v: &Value, allowed: RangeInclusive<usize>) -> Result<usize> {
        let size = v.as_u64().and_then(|n| usize::try_from(n).ok());
        size.filter(|n| allowed.contains(n)).ok_or_else(|| {
            let text = format!("an integer from {} to {}", allowed.start(), allowed.end());
            invalid(&self.path(key), v, &text)
        })
    }

    fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.optional(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(other) => Err(invalid(&self.path(key), other, "true or false")),
        }
    }

    /// An epsilon: 1e-5 when absent, and never 0, which would turn a row of zeros into NaN.
    fn eps_or(&self, key: &str) -> Result<f32> {
        let Some(value) = self.optional(key) else { return Ok(1e-5) };
        let eps = finite(value).filter(|&e| e > 0.0 && e <= 1.0);
        eps.ok_or_else(|| invalid(&self.path(key), value, "a number above 0 and at most 1"))
    }

    fn optional_f64(&self, key: &str, accept: impl Fn(f64) -> bool, allowed: &str) -> Result<Option<f64>> {
        let Some(value) = self.optional(key) else { return Ok(None) };
        let number = value.as_f64().filter(|n| n.is_finite() && accept(*n)).map(|n| n + 0.0);
        number.map(Some).ok_or_else(|| invalid(&self.path(key), value, allowed))
    }
}

/// The number as f32, unless that is infinite.
fn finite(value: &Value) -> Option<f32> {
    value.as_f64().map(|n| n as f32).filter(|n| n.is_finite())
}

fn missing(key: String) -> Error {
    Error::ConfigMissing { file: CONFIG_FILE.to_owned(), key }
}

fn invalid(key: &str, value: &Value, allowed: &str) -> Error {
    invalid_text(key, value.to_string(), allowed)
}

fn invalid_text(key: &str, value: String, allowed: &str) -> Error {
    Error::ConfigValue { file: CONFIG_FILE.to_owned(), key: key.to_owned(), value, allowed: allowed.to_owned() }
}
