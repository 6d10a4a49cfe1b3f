//! Taipan's own config.json.

use serde_json::Value;
use taipan_reference::GateMode;

use super::parse::{MAX_ATTENTION_HEAD, MAX_INTERMEDIATE, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, MAX_WINDOW, bos, eos};
use super::section::{Section, invalid, invalid_text, missing};
use super::{Config, Family, LayerType, Mamba2Config, MixerScales, SalConfig, Scales};
use crate::error::Result;

pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let vocab_size = root.size("vocab_size", 1..=MAX_VOCAB)?;
    let hidden_size = root.size("hidden_size", 1..=MAX_WIDTH)?;
    let layer_types = layer_types(root)?;
    let wants = |kind| layer_types.contains(&kind);
    Ok(Config {
        family: Family::Taipan,
        vocab_size,
        hidden_size,
        tie_word_embeddings: root.bool_or("tie_word_embeddings", true)?,
        rms_norm_eps: root.eps_or("rms_norm_eps", 1e-5)?,
        mamba2: section(root, "mamba2", wants(LayerType::Mamba2), |s| mamba2(s, hidden_size))?,
        selective_attention: section(root, "selective_attention", wants(LayerType::SelectiveAttention), attention)?,
        attention: None,
        mlp: None,
        experts: None,
        shared: None,
        scales: Scales::default(),
        layer_types,
        bos_token_id: bos(root, vocab_size)?,
        eos_token_ids: eos(root, vocab_size)?,
        max_trained_length: root.optional_size("max_trained_length", 1..=1 << 30)?,
    })
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
    let proj_bias = s.bool_or("proj_bias", false)?;
    Ok(Mamba2Config {
        num_heads: heads,
        d_state: s.size("d_state", 1..=1024)?,
        d_conv: s.size("d_conv", 2..=8)?,
        head_dim,
        n_groups,
        chunk_size: s.size_or("chunk_size", 1..=1 << 16, 256)?,
        conv_bias: s.bool_or("conv_bias", true)?,
        in_bias: proj_bias,
        out_bias: proj_bias,
        gate: GateMode::NormAfterGate,
        time_step_limit: s.limits("time_step_limit")?,
        norm_eps: s.eps_or("norm_eps", 1e-5)?,
        scales: MixerScales::default(),
    })
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
