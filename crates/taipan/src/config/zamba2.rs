//! The config.json of `Zamba2ForCausalLM` in transformers.

use serde_json::Value;

use super::hybrid::{self, MixerKeys};
use super::parse::{MAX_ATTENTION_HEAD, MAX_INTERMEDIATE, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, bos, eos};
use super::section::{Section, invalid, invalid_text, missing};
use super::{Activation, AttentionConfig, Config, Family, LayerType, Mamba2Config, MlpConfig, SharedConfig};
use crate::error::Result;

/// Of the gated norm, whatever the file says of the others.
const GATED_EPS: f32 = 1e-5;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let vocab_size = root.size_or("vocab_size", 1..=MAX_VOCAB, 32_000)?;
    let hidden_size = root.size_or("hidden_size", 1..=MAX_WIDTH, 2560)?;
    root.only("hidden_act", &["gelu"])?;
    let inner = root.size_or("intermediate_size", 1..=MAX_INTERMEDIATE, 4 * hidden_size)?;
    let bias = root.bool_or("add_bias_linear", false)?;
    Ok(Config {
        tie_word_embeddings: root.bool_or("tie_word_embeddings", true)?,
        rms_norm_eps: root.eps_or("rms_norm_eps", 1e-5)?,
        mamba2: Some(mixer(root, hidden_size)?),
        attention: Some(attention(root, hidden_size)?),
        mlp: Some(MlpConfig { activation: Activation::GeluGated, bias, ..MlpConfig::gated(inner) }),
        shared: Some(SharedConfig {
            blocks: root.size_or("num_mem_blocks", 1..=MAX_LAYERS, 1)?,
            adapter_rank: root.size_or("adapter_rank", 1..=MAX_WIDTH, 128)?,
            attention_adapters: root.bool_or("use_shared_attention_adapter", false)?,
        }),
        bos_token_id: bos(root, vocab_size)?,
        eos_token_ids: eos(root, vocab_size)?,
        max_trained_length: root.optional_size("max_position_embeddings", 1..=1 << 30)?,
        ..Config::bare(Family::Zamba2, vocab_size, hidden_size, layers(root)?)
    })
}

/// A word for each layer. Files from before the port to transformers have other names for everything, this key included.
fn layers(root: &Section<'_>) -> Result<Vec<LayerType>> {
    let key = "layers_block_type";
    let value = root.optional(key).ok_or_else(|| missing(key.to_owned()))?;
    let count = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, 54)?;
    let words = value.as_array().filter(|words| words.len() == count);
    let words = words.ok_or_else(|| invalid(key, value, &format!("a list of num_hidden_layers = {count} words")))?;
    let layer = |(i, word): (usize, &Value)| match word.as_str() {
        Some("mamba" | "linear_attention") => Ok(LayerType::Mamba2),
        Some("hybrid") => Ok(LayerType::Shared),
        _ => Err(invalid(&format!("{key}[{i}]"), word, "\"mamba\" or \"hybrid\"")),
    };
    words.iter().enumerate().map(layer).collect()
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
        rope: rotates.then(|| hybrid::rope(root, head_dim, 1.0)).transpose()?,
        ..AttentionConfig::plain([num_heads, kv_heads, head_dim])
    })
}
