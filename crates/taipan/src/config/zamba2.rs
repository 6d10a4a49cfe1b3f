//! The config.json of `Zamba2ForCausalLM` in transformers.

use super::hybrid::{self, MixerKeys, Rotating};
use super::parse::{MAX_ATTENTION_HEAD, MAX_INTERMEDIATE, MAX_LAYERS, MAX_WIDTH};
use super::section::{Section, invalid_text, missing};
use super::{Activation, AttentionConfig, Config, Family, LayerType, Mamba2Config, MlpConfig, SharedConfig};
use crate::error::Result;

/// Of the gated norm, whatever the file says of the others.
const GATED_EPS: f32 = 1e-5;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let base = hybrid::base(root, Family::Zamba2, [32_000, 2560], layers(root)?)?;
    let hidden = base.hidden_size;
    root.only("hidden_act", &["gelu"])?;
    let inner = root.size_or("intermediate_size", 1..=MAX_INTERMEDIATE, 4 * hidden)?;
    let bias = root.bool_or("add_bias_linear", false)?;
    Ok(Config {
        tie_word_embeddings: root.bool_or("tie_word_embeddings", true)?,
        rms_norm_eps: root.eps_or("rms_norm_eps", 1e-5)?,
        mamba2: Some(mixer(root, hidden)?),
        attention: Some(attention(root, hidden)?),
        mlp: Some(MlpConfig { activation: Activation::GeluGated, bias, ..MlpConfig::gated(inner) }),
        shared: Some(SharedConfig {
            blocks: root.size_or("num_mem_blocks", 1..=MAX_LAYERS, 1)?,
            adapter_rank: root.size_or("adapter_rank", 1..=MAX_WIDTH, 128)?,
            attention_adapters: root.bool_or("use_shared_attention_adapter", false)?,
        }),
        ..base
    })
}

/// A word for each layer. Files from before the port to transformers have other names for everything, this key included.
fn layers(root: &Section<'_>) -> Result<Vec<LayerType>> {
    let key = "layers_block_type";
    let value = root.optional(key).ok_or_else(|| missing(key.to_owned()))?;
    let count = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, 54)?;
    hybrid::listed(key, value, ("num_hidden_layers", count), &[("hybrid", LayerType::Shared)])
}

/// The width of a head follows from those of the others.
fn mixer(root: &Section<'_>, hidden: usize) -> Result<Mamba2Config> {
    let inner = hybrid::expanded(root, hidden)?;
    let num_heads = root.divisor_or("n_mamba_heads", inner, 8)?;
    let keys = MixerKeys {
        n_groups: ("mamba_ngroups", 1),
        d_state: ("mamba_d_state", 64),
        chunk_size: ("chunk_size", 256),
        conv_bias: "use_conv_bias",
        bias: "add_bias_linear",
        ..MixerKeys::MAMBA
    };
    keys.read(root, [num_heads, inner / num_heads], GATED_EPS)
}

/// Heads over twice the width of the stream; the whole of a head rotates, or nothing.
fn attention(root: &Section<'_>, hidden: usize) -> Result<AttentionConfig> {
    let num_heads = root.divisor_or("num_attention_heads", 2 * hidden, 32)?;
    let head_dim = 2 * hidden / num_heads;
    root.only_size("attention_head_dim", head_dim)?;
    root.only_size("attention_hidden_size", 2 * hidden)?;
    if head_dim > MAX_ATTENTION_HEAD {
        let allowed = format!("2 × hidden_size / {MAX_ATTENTION_HEAD} or more: heads of at most so many channels");
        return Err(invalid_text("num_attention_heads", num_heads.to_string(), &allowed));
    }
    let kv_heads = root.divisor_or("num_key_value_heads", num_heads, num_heads)?;
    let rotates = root.bool_or("use_mem_rope", false)?;
    Ok(AttentionConfig {
        scale: (head_dim as f32 / 2.0).sqrt().recip(),
        rope: rotates.then(|| hybrid::rope(root, head_dim, Rotating::All)).transpose()?,
        ..AttentionConfig::plain([num_heads, kv_heads, head_dim])
    })
}
