//! The config.json of `BambaForCausalLM` in transformers.

use super::hybrid::Rotating;
use super::parse::{MAX_INTERMEDIATE, MAX_LAYERS};
use super::section::Section;
use super::{AttentionConfig, Config, Family, LayerType, MlpConfig, hybrid};
use crate::error::Result;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let base = hybrid::base(root, Family::Bamba, [128_000, 4096], layers(root)?)?;
    let hidden = base.hidden_size;
    let norm_eps = root.eps_or("rms_norm_eps", 1e-5)?;
    root.only("hidden_act", &["silu", "swish"])?;
    let inner = root.size_or("intermediate_size", 1..=MAX_INTERMEDIATE, 14_336)?;
    Ok(Config {
        rms_norm_eps: norm_eps,
        mamba2: Some(hybrid::mixer(root, hybrid::expanded(root, hidden)?, 256, norm_eps)?),
        attention: Some(attention(root, hidden)?),
        mlp: Some(MlpConfig { bias: root.bool_or("mlp_bias", false)?, ..MlpConfig::gated(inner) }),
        ..base
    })
}

/// Mixers but for the layers of `attn_layer_indices`.
fn layers(root: &Section<'_>) -> Result<Vec<LayerType>> {
    let layers = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, 32)?;
    hybrid::attention_at(root, "attn_layer_indices", ("num_hidden_layers", layers))
}

fn attention(root: &Section<'_>, hidden: usize) -> Result<AttentionConfig> {
    let mut attention = hybrid::attention(root, hidden, Some(8))?;
    attention.rope = Some(hybrid::rope(root, attention.head_dim, Rotating::Half)?);
    Ok(attention)
}
