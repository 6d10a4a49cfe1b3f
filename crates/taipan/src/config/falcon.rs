//! The config.json of `FalconH1ForCausalLM` in transformers.

use serde_json::Value;
use taipan_reference::GateMode;

use super::hybrid::Rotating;
use super::parse::{MAX_INTERMEDIATE, MAX_LAYERS, MAX_WIDTH};
use super::section::Section;
use super::{AttentionConfig, Config, Family, LayerType, Mamba2Config, MixerScales, MlpConfig, Scales, hybrid};
use crate::error::Result;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let layers = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, 32)?;
    let base = hybrid::base(root, Family::FalconH1, [128_000, 4096], vec![LayerType::Parallel; layers])?;
    let norm_eps = root.eps_or("rms_norm_eps", 1e-5)?;
    root.only("hidden_act", &["silu", "swish"])?;
    let scales = Scales {
        embedding: root.factor_or("embedding_multiplier", 1.0)?,
        residual: 1.0,
        logits: root.factor_or("lm_head_multiplier", 1.0)?,
    };
    Ok(Config {
        rms_norm_eps: norm_eps,
        mamba2: Some(mixer(root, base.hidden_size, norm_eps)?),
        attention: Some(attention(root, base.hidden_size)?),
        mlp: Some(mlp(root)?),
        scales,
        ..base
    })
}

fn mixer(root: &Section<'_>, hidden: usize, norm_eps: f32) -> Result<Mamba2Config> {
    let inner = match root.map.get("mamba_d_ssm") {
        Some(Value::Null) => root.size_or("mamba_expand", 1..=16, 2)? * hidden,
        _ => root.size_or("mamba_d_ssm", 1..=16 * MAX_WIDTH, 1024)?,
    };
    let gate = match (root.bool_or("mamba_rms_norm", false)?, root.bool_or("mamba_norm_before_gate", true)?) {
        (false, _) => GateMode::GateOnly,
        (true, true) => GateMode::NormBeforeGate,
        (true, false) => GateMode::NormAfterGate,
    };
    Ok(Mamba2Config {
        gate,
        out_bias: root.bool_or("projectors_bias", false)?,
        scales: MixerScales {
            input: root.factor_or("ssm_in_multiplier", 1.0)?,
            projected: root.factors_or("ssm_multipliers")?,
            output: root.factor_or("ssm_out_multiplier", 1.0)?,
        },
        ..hybrid::mixer(root, inner, 256, norm_eps)?
    })
}

fn attention(root: &Section<'_>, hidden: usize) -> Result<AttentionConfig> {
    let plain = hybrid::attention(root, hidden, Some(8))?;
    Ok(AttentionConfig {
        // A factor of the keys is one of the scores.
        scale: root.factor_or("key_multiplier", 1.0)? * plain.scale,
        rope: Some(hybrid::rope(root, plain.head_dim, Rotating::All)?),
        in_scale: root.factor_or("attention_in_multiplier", 1.0)?,
        out_scale: root.factor_or("attention_out_multiplier", 1.0)?,
        ..plain
    })
}

fn mlp(root: &Section<'_>) -> Result<MlpConfig> {
    let [gate_scale, out_scale] = root.factors_or("mlp_multipliers")?;
    Ok(MlpConfig {
        bias: root.bool_or("mlp_bias", false)?,
        gate_scale,
        out_scale,
        ..MlpConfig::gated(root.size_or("intermediate_size", 1..=MAX_INTERMEDIATE, 14_336)?)
    })
}
