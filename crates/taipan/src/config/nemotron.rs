//! The config.json of `NemotronHForCausalLM` in transformers: Nemotron-H, Nemotron Nano 2.

use taipan_reference::Routing;

use super::hybrid::{self, MixerKeys};
use super::parse::{MAX_ATTENTION_HEAD, MAX_EXPERTS, MAX_INTERMEDIATE, MAX_LAYERS, MAX_TOP, MAX_WIDTH};
use super::section::{Section, invalid, invalid_text, missing};
use super::{Activation, AttentionConfig, Config, ExpertsConfig, Family, LayerType, Mamba2Config, MlpConfig};
use crate::error::Result;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let base = hybrid::base(root, Family::NemotronH, [131_072, 4096], layers(root)?)?;
    let norm_eps = root.eps_or("layer_norm_epsilon", 1e-5)?;
    root.only("mamba_hidden_act", &["silu", "swish"])?;
    root.only("mlp_hidden_act", &["relu2"])?;
    let inner = root.size_or("intermediate_size", 1..=MAX_INTERMEDIATE, 21_504)?;
    let bias = root.bool_or("mlp_bias", false)?;
    let mlp = MlpConfig { activation: Activation::Relu2, bias, ..MlpConfig::gated(inner) };
    Ok(Config {
        experts: (base.count(LayerType::Experts) > 0).then(|| experts(root)).transpose()?,
        rms_norm_eps: norm_eps,
        mamba2: Some(mixer(root, norm_eps)?),
        attention: Some(attention(root)?),
        mlp: (base.count(LayerType::Mlp) > 0).then_some(mlp),
        ..base
    })
}

/// A letter for each layer, or a word; the number of layers follows from them.
fn layers(root: &Section<'_>) -> Result<Vec<LayerType>> {
    const KINDS: [(&str, LayerType); 3] =
        [("attention", LayerType::Attention), ("mlp", LayerType::Mlp), ("moe", LayerType::Experts)];
    let key = ["hybrid_override_pattern", "layers_block_type"].into_iter().find(|key| root.optional(key).is_some());
    let key = key.ok_or_else(|| missing("layers_block_type".to_owned()))?;
    let value = root.required(key)?;
    let count = value.as_str().map_or_else(|| value.as_array().map_or(0, Vec::len), |text| text.chars().count());
    if !(1..=MAX_LAYERS).contains(&count) {
        return Err(invalid(key, value, &format!("1 to {MAX_LAYERS} layers")));
    }
    let Some(letters) = value.as_str() else { return hybrid::listed(key, value, ("", count), &KINDS) };
    let layer = |letter| match letter {
        'M' => Ok(LayerType::Mamba2),
        '*' => Ok(LayerType::Attention),
        '-' => Ok(LayerType::Mlp),
        'E' => Ok(LayerType::Experts),
        _ => Err(invalid(key, value, "a text of the letters M, *, - and E")),
    };
    letters.chars().map(layer).collect()
}

fn mixer(root: &Section<'_>, norm_eps: f32) -> Result<Mamba2Config> {
    // Older files spell some keys as other families do.
    let either = |new: &'static str, old: &'static str| if root.map.contains_key(old) { old } else { new };
    let num_heads = root.size_or("mamba_num_heads", 1..=MAX_WIDTH, 128)?;
    let keys = MixerKeys {
        n_groups: (either("n_groups", "mamba_n_groups"), 8),
        d_state: ("ssm_state_size", 128),
        d_conv: either("conv_kernel", "mamba_d_conv"),
        chunk_size: (either("chunk_size", "mamba_chunk_size"), 128),
        conv_bias: either("use_conv_bias", "mamba_conv_bias"),
        bias: "use_bias",
        limits: either("time_step_limit", "mamba_dt_limit"),
    };
    keys.read(root, [num_heads, root.size_or("mamba_head_dim", 1..=1024, 64)?], norm_eps)
}

/// The best sigmoids, corrected and by groups; one MLP for all tokens beside them.
fn experts(root: &Section<'_>) -> Result<ExpertsConfig> {
    let experts = root.size_or("n_routed_experts", 1..=MAX_EXPERTS, 8)?;
    let groups = root.divisor_or("n_group", experts, 1)?;
    let kept = root.size_or("topk_group", 1..=groups, 1)?;
    if groups > 32 || (groups > 1 && experts / groups < 2) {
        let allowed = "at most 32 groups of at least two experts";
        return Err(invalid_text("n_group", groups.to_string(), allowed));
    }
    let top = root.size_or("num_experts_per_tok", 1..=(experts / groups * kept).min(MAX_TOP), 2)?;
    let normalise = root.bool_or("norm_topk_prob", true)?;
    let scale = root.factor_or("routed_scaling_factor", 1.0)?;
    let plain = |inner| MlpConfig { activation: Activation::Relu2, ..MlpConfig::gated(inner) };
    root.only_size("n_shared_experts", 1)?;
    Ok(ExpertsConfig {
        routing: Routing { experts, top, sigmoid: true, groups, kept, normalise, scale },
        expert: plain(root.size_or("moe_intermediate_size", 1..=MAX_INTERMEDIATE, 7688)?),
        latent: root.optional_size("moe_latent_size", 1..=MAX_WIDTH)?,
        shared: Some(plain(root.size_or("moe_shared_expert_intermediate_size", 1..=MAX_INTERMEDIATE, 7688)?)),
    })
}

/// No positions, no biases.
fn attention(root: &Section<'_>) -> Result<AttentionConfig> {
    let num_heads = root.size_or("num_attention_heads", 1..=1024, 32)?;
    let key = if root.map.contains_key("head_dim") { "head_dim" } else { "attention_head_dim" };
    let head_dim = root.size_or(key, 1..=MAX_ATTENTION_HEAD, 128)?;
    let kv_heads = root.divisor_or("num_key_value_heads", num_heads, 8)?;
    Ok(AttentionConfig::plain([num_heads, kv_heads, head_dim]))
}
