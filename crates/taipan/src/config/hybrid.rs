//! What the hybrids of transformers spell alike: mixers among layers of attention.

use serde_json::Value;
use taipan_reference::GateMode;

use super::parse::{MAX_ATTENTION_HEAD, MAX_LAYERS};
use super::section::{Section, invalid, invalid_text};
use super::{AttentionConfig, LayerType, Mamba2Config, MixerScales, Rope};
use crate::error::Result;

/// `layer_types` in both spellings; all mixers where it is absent.
pub(super) fn layer_types(root: &Section<'_>, default_layers: usize) -> Result<Vec<LayerType>> {
    const KEY: &str = "layer_types";
    let layers = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, default_layers)?;
    let Some(value) = root.optional(KEY) else { return Ok(vec![LayerType::Mamba2; layers]) };
    let entries = value.as_array().filter(|entries| entries.len() == layers);
    let Some(entries) = entries else {
        return Err(invalid(KEY, value, &format!("a list of num_hidden_layers = {layers} entries")));
    };
    let parse = |(i, entry): (usize, &Value)| match entry.as_str() {
        Some("mamba" | "linear_attention") => Ok(LayerType::Mamba2),
        Some("attention" | "full_attention") => Ok(LayerType::Attention),
        _ => Err(invalid(&format!("{KEY}[{i}]"), entry, "\"mamba\" or \"attention\"")),
    };
    entries.iter().enumerate().map(parse).collect()
}

/// Inner width of a mixer as a multiple of the hidden size.
pub(super) fn expanded(root: &Section<'_>, hidden: usize) -> Result<usize> {
    Ok(root.size_or("mamba_expand", 1..=16, 2)? * hidden)
}

/// The `mamba_*` keys, for an inner width.
pub(super) fn mixer(root: &Section<'_>, inner: usize, d_state: usize, norm_eps: f32) -> Result<Mamba2Config> {
    let num_heads = root.divisor_or("mamba_n_heads", inner, 128)?;
    let head_dim = match root.optional("mamba_d_head") {
        Some(Value::String(auto)) if auto == "auto" => inner / num_heads,
        _ => root.size_or("mamba_d_head", 1..=1024, inner / num_heads)?,
    };
    if num_heads * head_dim != inner {
        let allowed = format!("the inner width / mamba_n_heads = {inner} / {num_heads}");
        return Err(invalid_text("mamba_d_head", head_dim.to_string(), &allowed));
    }
    let bias = root.bool_or("mamba_proj_bias", false)?;
    Ok(Mamba2Config {
        num_heads,
        head_dim,
        n_groups: root.divisor_or("mamba_n_groups", num_heads, 1)?,
        d_state: root.size_or("mamba_d_state", 1..=1024, d_state)?,
        d_conv: root.size_or("mamba_d_conv", 2..=8, 4)?,
        chunk_size: root.size_or("mamba_chunk_size", 1..=1 << 16, 256)?,
        conv_bias: root.bool_or("mamba_conv_bias", true)?,
        in_bias: bias,
        out_bias: bias,
        gate: GateMode::NormAfterGate,
        time_step_limit: root.limits("time_step_limit")?,
        norm_eps,
        scales: MixerScales::default(),
    })
}

/// Heads of attention whose width follows from the hidden size; scores are scaled by its root, and nothing rotates.
pub(super) fn attention(root: &Section<'_>, hidden: usize, kv_heads: Option<usize>) -> Result<AttentionConfig> {
    let num_heads = root.divisor_or("num_attention_heads", hidden, 32)?;
    let head_dim = hidden / num_heads;
    if head_dim > MAX_ATTENTION_HEAD {
        let allowed = format!("hidden_size / {MAX_ATTENTION_HEAD} or more: heads of at most so many channels");
        return Err(invalid_text("num_attention_heads", num_heads.to_string(), &allowed));
    }
    let num_key_value_heads = root.divisor_or("num_key_value_heads", num_heads, kv_heads.unwrap_or(num_heads))?;
    Ok(AttentionConfig {
        num_heads,
        num_key_value_heads,
        head_dim,
        scale: (head_dim as f32).sqrt().recip(),
        rope: None,
        bias: root.bool_or("attention_bias", false)?,
        in_scale: 1.0,
        out_scale: 1.0,
    })
}

/// Rotary positions in both spellings; `part` of a head's channels rotate unless the file says otherwise.
pub(super) fn rope(root: &Section<'_>, head_dim: usize, part: f64) -> Result<Rope> {
    let positive = "a positive number";
    let section = root.section("rope_parameters")?;
    for old in [&section, &root.section("rope_scaling")?] {
        old.only("rope_type", &["default"])?;
        old.only("type", &["default"])?;
    }
    let theta = root.optional_f64("rope_theta", |theta| theta > 0.0, positive)?;
    let theta = section.optional_f64("rope_theta", |theta| theta > 0.0, positive)?.or(theta).unwrap_or(10_000.0);
    let share = section.optional_f64("partial_rotary_factor", |f| f > 0.0 && f <= 1.0, "a number up to 1")?;
    let channels = (head_dim as f64 * share.unwrap_or(part)) as usize;
    if channels == 0 || !channels.is_multiple_of(2) {
        let found = format!("{channels} of {head_dim} channels");
        return Err(invalid_text("rope_parameters", found, "an even number of channels that rotate"));
    }
    Ok(Rope { theta, channels })
}
