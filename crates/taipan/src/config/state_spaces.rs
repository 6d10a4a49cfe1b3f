//! The config.json of the original Mamba-2 checkpoints.

use taipan_reference::GateMode;

use super::parse::{MAX_LAYERS, MAX_VOCAB, MAX_WIDTH};
use super::section::{Section, invalid_text};
use super::{Config, Family, LayerType, Mamba2Config, MixerScales};
use crate::error::Result;

/// Of every norm; the files do not say it.
const EPS: f32 = 1e-5;

/// Absent keys take the defaults of the original `MambaConfig`.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let width = root.size_or("d_model", 1..=MAX_WIDTH, 2560)?;
    let layers = root.size_or("n_layer", 1..=MAX_LAYERS, 64)?;
    let vocab = root.size_or("vocab_size", 1..=MAX_VOCAB, 50_277)?;
    let multiple = root.size_or("pad_vocab_size_multiple", 1..=MAX_VOCAB, 8)?;
    root.only_size("d_intermediate", 0)?;
    root.only_bool("rms_norm", true)?;
    root.only_empty("attn_layer_idx")?;
    Ok(Config {
        tie_word_embeddings: root.bool_or("tie_embeddings", true)?,
        rms_norm_eps: EPS,
        mamba2: Some(mixer(&root.section("ssm_cfg")?, width)?),
        ..Config::bare(Family::StateSpaces, vocab.next_multiple_of(multiple), width, vec![LayerType::Mamba2; layers])
    })
}

fn mixer(s: &Section<'_>, width: usize) -> Result<Mamba2Config> {
    s.known(&[
        "layer",
        "d_state",
        "d_conv",
        "expand",
        "headdim",
        "ngroups",
        "rmsnorm",
        "norm_before_gate",
        "dt_limit",
        "bias",
        "conv_bias",
        "chunk_size",
        "D_has_hdim",
        "d_ssm",
    ])?;
    s.required("layer")?;
    s.only("layer", &["Mamba2"])?;
    s.only_bool("D_has_hdim", false)?;
    let d_inner = s.size_or("expand", 1..=16, 2)? * width;
    s.only_size("d_ssm", d_inner)?;
    let head_dim = s.size_or("headdim", 1..=1024, 64)?;
    if !d_inner.is_multiple_of(head_dim) {
        let allowed = format!("a divisor of expand × d_model = {d_inner}");
        return Err(invalid_text(&s.path("headdim"), head_dim.to_string(), &allowed));
    }
    let num_heads = d_inner / head_dim;
    let bias = s.bool_or("bias", false)?;
    let gate = match (s.bool_or("rmsnorm", true)?, s.bool_or("norm_before_gate", false)?) {
        (false, _) => GateMode::GateOnly,
        (true, true) => GateMode::NormBeforeGate,
        (true, false) => GateMode::NormAfterGate,
    };
    Ok(Mamba2Config {
        num_heads,
        head_dim,
        n_groups: s.divisor_or("ngroups", num_heads, 1)?,
        d_state: s.size_or("d_state", 1..=1024, 128)?,
        d_conv: s.size_or("d_conv", 2..=8, 4)?,
        chunk_size: s.size_or("chunk_size", 1..=1 << 16, 256)?,
        conv_bias: s.bool_or("conv_bias", true)?,
        in_bias: bias,
        out_bias: bias,
        gate,
        time_step_limit: s.limits("dt_limit")?,
        norm_eps: EPS,
        scales: MixerScales::default(),
    })
}
