//! The config.json of `GraniteMoeHybridForCausalLM` in transformers: Granite 4.0.

use taipan_reference::Routing;

use super::hybrid::Rotating;
use super::parse::{MAX_EXPERTS, MAX_INTERMEDIATE, MAX_TOP};
use super::section::Section;
use super::{AttentionConfig, Config, ExpertsConfig, Family, MlpConfig, Scales, hybrid};
use crate::error::Result;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let base = hybrid::base(root, Family::GraniteMoeHybrid, [32_000, 4096], hybrid::layer_types(root, 32)?)?;
    let hidden = base.hidden_size;
    let norm_eps = root.eps_or("rms_norm_eps", 1e-6)?;
    root.only("hidden_act", &["silu", "swish"])?;
    let mlp = MlpConfig::gated(root.size_or("shared_intermediate_size", 1..=MAX_INTERMEDIATE, 1024)?);
    let factor = |key: &str| root.factor_or(key, 1.0);
    Ok(Config {
        rms_norm_eps: norm_eps,
        mamba2: Some(hybrid::mixer(root, hybrid::expanded(root, hidden)?, 256, norm_eps)?),
        attention: Some(attention(root, hidden)?),
        experts: experts(root, &mlp)?,
        mlp: Some(mlp),
        scales: Scales {
            embedding: factor("embedding_multiplier")?,
            residual: factor("residual_multiplier")?,
            logits: factor("logits_scaling")?.recip(),
        },
        ..base
    })
}

/// The best logits and the softmax over them; the MLP is there as well.
fn experts(root: &Section<'_>, shared: &MlpConfig) -> Result<Option<ExpertsConfig>> {
    let experts = root.size_or("num_local_experts", 0..=MAX_EXPERTS, 8)?;
    if experts == 0 {
        return Ok(None);
    }
    let top = root.size_or("num_experts_per_tok", 1..=experts.min(MAX_TOP), 2)?;
    let routing = Routing { experts, top, sigmoid: false, groups: 1, kept: 1, normalise: true, scale: 1.0 };
    let expert = MlpConfig::gated(root.size_or("intermediate_size", 1..=MAX_INTERMEDIATE, 11_008)?);
    Ok(Some(ExpertsConfig { routing, expert, latent: None, shared: Some(shared.clone()) }))
}

fn attention(root: &Section<'_>, hidden: usize) -> Result<AttentionConfig> {
    root.only("position_embedding_type", &["rope", "nope"])?;
    let mut attention = hybrid::attention(root, hidden, None)?;
    attention.scale = root.factor_or("attention_multiplier", 1.0)?;
    if root.optional("position_embedding_type").is_some_and(|kind| kind == "rope") {
        attention.rope = Some(hybrid::rope(root, attention.head_dim, Rotating::All)?);
    }
    Ok(attention)
}
