//! The config.json of `Mamba2ForCausalLM` in transformers.

use super::hybrid::{self, MixerKeys};
use super::parse::{MAX_LAYERS, MAX_WIDTH};
use super::section::{Section, invalid_text};
use super::{Config, Family, LayerType, Mamba2Config};
use crate::error::Result;

/// Absent keys take the defaults of the class.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let layers = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, 64)?;
    let base = hybrid::base(root, Family::Mamba2, [32_768, 4096], vec![LayerType::Mamba2; layers])?;
    let norm_eps = root.eps_or("layer_norm_epsilon", 1e-5)?;
    root.only("hidden_act", &["silu", "swish"])?;
    Ok(Config { rms_norm_eps: norm_eps, mamba2: Some(mixer(root, base.hidden_size, norm_eps)?), ..base })
}

fn mixer(root: &Section<'_>, hidden: usize, norm_eps: f32) -> Result<Mamba2Config> {
    let num_heads = root.size_or("num_heads", 1..=MAX_WIDTH, 128)?;
    let head_dim = root.size_or("head_dim", 1..=1024, 64)?;
    let d_inner = root.size_or("expand", 1..=16, 2)? * hidden;
    if num_heads * head_dim != d_inner {
        let allowed = format!("expand × hidden_size / num_heads = {d_inner} / {num_heads}");
        return Err(invalid_text("head_dim", head_dim.to_string(), &allowed));
    }
    let keys = MixerKeys {
        n_groups: ("n_groups", 8),
        d_state: ("state_size", 128),
        d_conv: "conv_kernel",
        chunk_size: ("chunk_size", 256),
        conv_bias: "use_conv_bias",
        bias: "use_bias",
        limits: "time_step_limit",
    };
    keys.read(root, [num_heads, head_dim], norm_eps)
}
