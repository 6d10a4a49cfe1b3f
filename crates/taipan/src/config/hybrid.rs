//! What the hybrids of transformers spell alike: mixers among layers of attention.

use serde_json::Value;
use taipan_reference::GateMode;

use super::parse::{MAX_ATTENTION_HEAD, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, bos, eos};
use super::section::{Section, invalid, invalid_text};
use super::{AttentionConfig, Config, Family, LayerType, Mamba2Config, MixerScales, Rope};
use crate::error::Result;

/// What all families spell alike. `default` is what the class takes for the vocabulary and the width of the stream.
pub(super) fn base(root: &Section<'_>, family: Family, default: [usize; 2], layers: Vec<LayerType>) -> Result<Config> {
    let vocab = root.size_or("vocab_size", 1..=MAX_VOCAB, default[0])?;
    let hidden = root.size_or("hidden_size", 1..=MAX_WIDTH, default[1])?;
    Ok(Config {
        tie_word_embeddings: root.bool_or("tie_word_embeddings", false)?,
        bos_token_id: bos(root, vocab)?,
        eos_token_ids: eos(root, vocab)?,
        max_trained_length: root.optional_size("max_position_embeddings", 1..=1 << 30)?,
        ..Config::bare(family, vocab, hidden, layers)
    })
}

/// `layer_types` in both spellings; all mixers where it is absent.
pub(super) fn layer_types(root: &Section<'_>, default_layers: usize) -> Result<Vec<LayerType>> {
    let layers = root.size_or("num_hidden_layers", 1..=MAX_LAYERS, default_layers)?;
    // The second is another name that transformers has for the first.
    let found = ["layer_types", "layers_block_type"].into_iter().find_map(|key| Some((key, root.optional(key)?)));
    let Some((key, value)) = found else { return Ok(vec![LayerType::Mamba2; layers]) };
    listed(key, value, ("num_hidden_layers", layers), &[("attention", LayerType::Attention)])
}

/// A word for each layer: mixers in both spellings, and these others. As many as another key says.
pub(super) fn listed(
    key: &str,
    value: &Value,
    (count, layers): (&str, usize),
    others: &[(&str, LayerType)],
) -> Result<Vec<LayerType>> {
    let entries = value.as_array().filter(|entries| entries.len() == layers);
    let entries = entries.ok_or_else(|| invalid(key, value, &format!("a list of {count} = {layers} entries")))?;
    let kind = |word: &str| match word {
        "mamba" | "linear_attention" => Some(LayerType::Mamba2),
        word => others.iter().find(|(other, _)| word.strip_prefix("full_").unwrap_or(word) == *other).map(|(_, k)| *k),
    };
    let parse = |(i, entry): (usize, &Value)| {
        let words = || others.iter().map(|(word, _)| format!(" or \"{word}\"")).collect::<String>();
        let wrong = || invalid(&format!("{key}[{i}]"), entry, &format!("\"mamba\"{}", words()));
        entry.as_str().and_then(kind).ok_or_else(wrong)
    };
    entries.iter().enumerate().map(parse).collect()
}

/// Inner width of a mixer as a multiple of the hidden size.
pub(super) fn expanded(root: &Section<'_>, hidden: usize) -> Result<usize> {
    Ok(root.size_or("mamba_expand", 1..=16, 2)? * hidden)
}

/// The `mamba_*` keys, for an inner width.
pub(super) fn mixer(root: &Section<'_>, inner: usize, d_state: usize, norm_eps: f32) -> Result<Mamba2Config> {
    let num_heads = root.divisor_or("mamba_n_heads", inner, 128)?;
    let head_dim = match root.optional("mamba_d_head") {
        Some(Value::String(auto)) if auto == "auto" => inner / num_heads,
        _ => root.size_or("mamba_d_head", 1..=1024, inner / num_heads)?,
    };
    if num_heads * head_dim != inner {
        let allowed = format!("the inner width / mamba_n_heads = {inner} / {num_heads}");
        return Err(invalid_text("mamba_d_head", head_dim.to_string(), &allowed));
    }
    let keys = MixerKeys { d_state: ("mamba_d_state", d_state), ..MixerKeys::MAMBA };
    keys.read(root, [num_heads, head_dim], norm_eps)
}

/// How a family spells the keys of its mixers, and what stands in for a number that is absent.
pub(super) struct MixerKeys {
    pub(super) n_groups: (&'static str, usize),
    pub(super) d_state: (&'static str, usize),
    pub(super) d_conv: &'static str,
    pub(super) chunk_size: (&'static str, usize),
    pub(super) conv_bias: &'static str,
    pub(super) bias: &'static str,
    pub(super) limits: &'static str,
}

impl MixerKeys {
    /// With `mamba_` in front.
    pub(super) const MAMBA: Self = Self {
        n_groups: ("mamba_n_groups", 1),
        d_state: ("mamba_d_state", 128),
        d_conv: "mamba_d_conv",
        chunk_size: ("mamba_chunk_size", 256),
        conv_bias: "mamba_conv_bias",
        bias: "mamba_proj_bias",
        limits: "time_step_limit",
    };

    /// A mixer of so many heads and channels of a head, gated in front of its norm.
    pub(super) fn read(&self, s: &Section<'_>, heads: [usize; 2], norm_eps: f32) -> Result<Mamba2Config> {
        let [num_heads, head_dim] = heads;
        let bias = s.bool_or(self.bias, false)?;
        Ok(Mamba2Config {
            num_heads,
            head_dim,
            n_groups: s.divisor_or(self.n_groups.0, num_heads, self.n_groups.1)?,
            d_state: s.size_or(self.d_state.0, 1..=1024, self.d_state.1)?,
            d_conv: s.size_or(self.d_conv, 2..=8, 4)?,
            chunk_size: s.size_or(self.chunk_size.0, 1..=1 << 16, self.chunk_size.1)?,
            conv_bias: s.bool_or(self.conv_bias, true)?,
            in_bias: bias,
            out_bias: bias,
            gate: GateMode::NormAfterGate,
            time_step_limit: s.limits(self.limits)?,
            norm_eps,
            scales: MixerScales::default(),
        })
    }
}

/// Mixers but for the layers of attention that a list names.
pub(super) fn attention_at(root: &Section<'_>, key: &str, (count, layers): (&str, usize)) -> Result<Vec<LayerType>> {
    let mut types = vec![LayerType::Mamba2; layers];
    let Some(value) = root.optional(key) else { return Ok(types) };
    let wrong = || invalid(key, value, &format!("a list of numbers below {count} = {layers}"));
    for index in value.as_array().ok_or_else(wrong)? {
        let index = Value::as_u64(index).and_then(|i| usize::try_from(i).ok());
        *index.and_then(|i| types.get_mut(i)).ok_or_else(wrong)? = LayerType::Attention;
    }
    Ok(types)
}

/// Heads of attention whose width follows from the hidden size where the file does not say it; scores are scaled by its root,
/// and nothing rotates. Of keys and values there are as many heads as of queries where the file says null.
pub(super) fn attention(root: &Section<'_>, hidden: usize, kv_heads: Option<usize>) -> Result<AttentionConfig> {
    let num_heads = root.size_or("num_attention_heads", 1..=1024, 32)?;
    let head_dim = match root.optional_size("head_dim", 1..=MAX_ATTENTION_HEAD)? {
        Some(size) => size,
        None => hidden / root.divisor_or("num_attention_heads", hidden, 32)?,
    };
    if head_dim > MAX_ATTENTION_HEAD {
        let allowed = format!("hidden_size / {MAX_ATTENTION_HEAD} or more: heads of at most so many channels");
        return Err(invalid_text("num_attention_heads", num_heads.to_string(), &allowed));
    }
    let same = root.map.get("num_key_value_heads").is_some_and(Value::is_null);
    let default = kv_heads.filter(|_| !same).unwrap_or(num_heads);
    let num_key_value_heads = root.divisor_or("num_key_value_heads", num_heads, default)?;
    let bias = root.bool_or("attention_bias", false)?;
    let plain = AttentionConfig::plain([num_heads, num_key_value_heads, head_dim]);
    Ok(AttentionConfig { bias, out_bias: bias, ..plain })
}

/// Which channels of a head rotate.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rotating {
    /// All of them, whatever the file says.
    All,
    /// Half of them, unless `rope_parameters` says otherwise.
    Half,
}

/// Rotary positions in both spellings, of which newer versions of transformers take the older where it is there.
pub(super) fn rope(root: &Section<'_>, head_dim: usize, rotating: Rotating) -> Result<Rope> {
    let old = root.optional("rope_scaling").is_some_and(|value| value.as_object().is_none_or(|map| !map.is_empty()));
    let section = root.section(if old { "rope_scaling" } else { "rope_parameters" })?;
    section.only("rope_type", &["default"])?;
    section.only("type", &["default"])?;
    section.known("rope_theta rope_type type partial_rotary_factor")?;
    let theta = |s: &Section<'_>| s.optional_f64("rope_theta", |theta| theta > 0.0, "a positive number");
    let theta = theta(&section)?.or(theta(root)?).unwrap_or(10_000.0);
    let part = if rotating == Rotating::All { 1.0 } else { 0.5 };
    let share = |s: &Section<'_>, free: bool| {
        let allowed = if free { "a number up to 1".to_owned() } else { part.to_string() };
        s.optional_f64("partial_rotary_factor", |f| f == part || (free && f > 0.0 && f <= 1.0), &allowed)
    };
    // At the top of the file the class has the last word.
    share(root, false)?;
    let channels = (head_dim as f64 * share(&section, rotating == Rotating::Half)?.unwrap_or(part)) as usize;
    if channels == 0 || !channels.is_multiple_of(2) {
        let found = format!("{channels} of {head_dim} channels");
        return Err(invalid_text(section.name, found, "an even number of channels that rotate"));
    }
    Ok(Rope { theta, channels })
}
