//! The config.json of `BambaForCausalLM` in transformers.

use super::parse::{MAX_INTERMEDIATE, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, bos, eos};
use super::section::Section;
use super::{AttentionConfig, Config, Family, LayerType, MlpConfig, hybrid};
use crate::error::Result;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let vocab_size = root.size_or("vocab_size", 1..=MAX_VOCAB, 128_000)?;
    let hidden_size = root.size_or("hidden_size", 1..=MAX_WIDTH, 4096)?;
    let norm_eps = root.eps_or("rms_norm_eps", 1e-5)?;
    root.only("hidden_act", &["silu", "swish"])?;
    let inner = root.size_or("intermediate_size", 1..=MAX_INTERMEDIATE, 14_336)?;
    Ok(Config {
        tie_word_embeddings: root.bool_or("tie_word_embeddings", false)?,
        rms_norm_eps: norm_eps,
        mamba2: Some(hybrid::mixer(root, hybrid::expanded(root, hidden_size)?, 256, norm_eps)?),
        attention: Some(attention(root, hidden_size)?),
        mlp: Some(MlpConfig { bias: root.bool_or("mlp_bias", false)?, ..MlpConfig::gated(inner) }),
        bos_token_id: bos(root, vocab_size)?,
        eos_token_ids: eos(root, vocab_size)?,
        max_trained_length: root.optional_size("max_position_embeddings", 1..=1 << 30)?,
        ..Config::bare(Family::Bamba, vocab_size, hidden_size, layers(root)?)
    })
}

/// Mixers but for the layers of `attn_layer_indices`.
fn layers(root: &Section<'_>) -> Result<Vec<LayerType>> {
    let layers = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, 32)?;
    hybrid::attention_at(root, "attn_layer_indices", ("num_hidden_layers", layers))
}

/// Half of a head's channels rotate unless `rope_parameters` says otherwise.
fn attention(root: &Section<'_>, hidden: usize) -> Result<AttentionConfig> {
    let mut attention = hybrid::attention(root, hidden, Some(8))?;
    attention.rope = Some(hybrid::rope(root, attention.head_dim, 0.5)?);
    Ok(attention)
}
