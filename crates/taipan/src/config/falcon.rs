//! The config.json of `FalconH1ForCausalLM` in transformers.

use serde_json::Value;
use taipan_reference::GateMode;

use super::parse::{MAX_ATTENTION_HEAD, MAX_INTERMEDIATE, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, bos, eos};
use super::section::{Section, invalid_text};
use super::{AttentionConfig, Config, Family, LayerType, Mamba2Config, MixerScales, MlpConfig, Scales, hybrid};
use crate::error::Result;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let vocab_size = root.size_or("vocab_size", 1..=MAX_VOCAB, 128_000)?;
    let hidden_size = root.size_or("hidden_size", 1..=MAX_WIDTH, 4096)?;
    let layers = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, 32)?;
    let norm_eps = root.eps_or("rms_norm_eps", 1e-5)?;
    root.only("hidden_act", &["silu", "swish"])?;
    let scales = Scales {
        embedding: root.factor_or("embedding_multiplier", 1.0)?,
        residual: 1.0,
        logits: root.factor_or("lm_head_multiplier", 1.0)?,
    };
    Ok(Config {
        tie_word_embeddings: root.bool_or("tie_word_embeddings", false)?,
        rms_norm_eps: norm_eps,
        mamba2: Some(mixer(root, hidden_size, norm_eps)?),
        attention: Some(attention(root, hidden_size)?),
        mlp: Some(mlp(root)?),
        scales,
        bos_token_id: bos(root, vocab_size)?,
        eos_token_ids: eos(root, vocab_size)?,
        max_trained_length: root.optional_size("max_position_embeddings", 1..=1 << 30)?,
        ..Config::bare(Family::FalconH1, vocab_size, hidden_size, vec![LayerType::Parallel; layers])
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
    let num_heads = root.size_or("num_attention_heads", 1..=1024, 32)?;
    let head_dim = root.size_or("head_dim", 1..=MAX_ATTENTION_HEAD, (hidden / num_heads).max(1))?;
    if head_dim > MAX_ATTENTION_HEAD {
        let allowed = format!("at most {MAX_ATTENTION_HEAD}");
        return Err(invalid_text("head_dim", head_dim.to_string(), &allowed));
    }
    let bias = root.bool_or("attention_bias", false)?;
    Ok(AttentionConfig {
        num_heads,
        num_key_value_heads: root.divisor_or("num_key_value_heads", num_heads, 8)?,
        head_dim,
        // A factor of the keys is one of the scores.
        scale: root.factor_or("key_multiplier", 1.0)? / (head_dim as f32).sqrt(),
        rope: Some(hybrid::rope(root, head_dim, 1.0)?),
        bias,
        out_bias: bias,
        conv: None,
        in_scale: root.factor_or("attention_in_multiplier", 1.0)?,
        out_scale: root.factor_or("attention_out_multiplier", 1.0)?,
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
