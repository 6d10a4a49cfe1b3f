//! The config.json of the original Mamba-2 checkpoints.

use taipan_reference::GateMode;

use super::hybrid::{self, MixerKeys};
use super::parse::{MAX_ATTENTION_HEAD, MAX_INTERMEDIATE, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH};
use super::section::{Section, invalid_text};
use super::{AttentionConfig, Config, Family, LayerType, Mamba2Config, MlpConfig, Rope};
use crate::error::Result;

/// Of every norm; the files do not say it.
const EPS: f32 = 1e-5;

/// The width of an MLP is rounded up to a multiple of this.
const MLP_MULTIPLE: usize = 128;

const MIXER_KEYS: &str = "layer d_state d_conv expand headdim ngroups rmsnorm norm_before_gate dt_limit bias conv_bias \
                          chunk_size D_has_hdim d_ssm";

const ATTENTION_KEYS: &str = "causal d_conv head_dim mlp_dim num_heads num_heads_kv out_proj_bias qkv_proj_bias \
                              rotary_emb_base rotary_emb_dim rotary_emb_interleaved softmax_scale";

/// Absent keys take the defaults of the original `MambaConfig`.
pub(super) fn config(root: &Section<'_>) -> Result<Config> {
    let width = root.size_or("d_model", 1..=MAX_WIDTH, 2560)?;
    let layers = root.size_or("n_layer", 1..=MAX_LAYERS, 64)?;
    let vocab = root.size_or("vocab_size", 1..=MAX_VOCAB, 50_277)?;
    let multiple = root.size_or("pad_vocab_size_multiple", 1..=MAX_VOCAB, 8)?;
    let inner = root.size_or("d_intermediate", 0..=MAX_INTERMEDIATE, 0)?.next_multiple_of(MLP_MULTIPLE);
    root.only_bool("rms_norm", true)?;
    let layer_types = hybrid::attention_at(root, "attn_layer_idx", ("n_layer", layers))?;
    let attends = layer_types.contains(&LayerType::Attention);
    Ok(Config {
        attention: attends.then(|| attention(&root.section("attn_cfg")?, width)).transpose()?,
        tie_word_embeddings: root.bool_or("tie_embeddings", true)?,
        rms_norm_eps: EPS,
        mamba2: Some(mixer(&root.section("ssm_cfg")?, width)?),
        mlp: (inner > 0).then(|| MlpConfig::gated(inner)),
        ..Config::bare(Family::StateSpaces, vocab.next_multiple_of(multiple), width, layer_types)
    })
}

fn mixer(s: &Section<'_>, width: usize) -> Result<Mamba2Config> {
    s.known(MIXER_KEYS)?;
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
    let gate = match (s.bool_or("rmsnorm", true)?, s.bool_or("norm_before_gate", false)?) {
        (false, _) => GateMode::GateOnly,
        (true, true) => GateMode::NormBeforeGate,
        (true, false) => GateMode::NormAfterGate,
    };
    let keys = MixerKeys {
        n_groups: ("ngroups", 1),
        d_state: ("d_state", 128),
        d_conv: "d_conv",
        chunk_size: ("chunk_size", 256),
        conv_bias: "conv_bias",
        bias: "bias",
        limits: "dt_limit",
    };
    Ok(Mamba2Config { gate, ..keys.read(s, [d_inner / head_dim, head_dim], EPS)? })
}

/// Queries, keys and values from one projection and through a convolution; some channels of a head rotate.
fn attention(s: &Section<'_>, width: usize) -> Result<AttentionConfig> {
    s.known(ATTENTION_KEYS)?;
    // Absent it is false: every token would see the whole text.
    s.required("causal")?;
    s.only_bool("causal", true)?;
    s.only_size("mlp_dim", 0)?;
    s.only_bool("rotary_emb_interleaved", false)?;
    let num_heads = s.size("num_heads", 1..=1024)?;
    let head_dim = match s.optional("head_dim") {
        None => width / s.divisor_or("num_heads", width, 1)?,
        Some(_) => s.size("head_dim", 1..=MAX_ATTENTION_HEAD)?,
    };
    let head_dim = s.to_size("head_dim", &head_dim.into(), 1..=MAX_ATTENTION_HEAD)?;
    let kv_heads = s.divisor_or("num_heads_kv", num_heads, num_heads)?;
    let plain = AttentionConfig::plain([num_heads, kv_heads, head_dim]);
    let taps = s.size_or("d_conv", 0..=8, 0)?;
    if taps == 1 {
        return Err(invalid_text(&s.path("d_conv"), taps.to_string(), "0, or 2 to 8"));
    }
    Ok(AttentionConfig {
        scale: s.factor_or("softmax_scale", plain.scale)?,
        rope: rope(s, head_dim)?,
        bias: s.bool_or("qkv_proj_bias", true)?,
        out_bias: s.bool_or("out_proj_bias", true)?,
        conv: (taps > 0).then_some(taps),
        ..plain
    })
}

fn rope(s: &Section<'_>, head_dim: usize) -> Result<Option<Rope>> {
    let channels = s.size_or("rotary_emb_dim", 0..=head_dim, 0)?;
    if !channels.is_multiple_of(2) {
        return Err(invalid_text(&s.path("rotary_emb_dim"), channels.to_string(), "an even number"));
    }
    let theta = s.optional_f64("rotary_emb_base", |theta| theta > 0.0, "a positive number")?.unwrap_or(10_000.0);
    Ok((channels > 0).then_some(Rope { theta, channels }))
}
