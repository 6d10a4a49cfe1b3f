//! `config.json`: every number that shapes a model, checked before anything is computed from it.
//!
//! After [`Config::from_json`] all sizes are positive, divide where they must, and are small enough that no product of
//! them overflows `usize`, also where that has 32 bits. Unknown keys are ignored. Weights are not looked at here.

mod parse;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A model's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Rows of the embedding; valid token ids are below it.
    pub vocab_size: usize,
    /// Width d of the residual stream.
    pub hidden_size: usize,
    /// Whether the head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Epsilon of every RMSNorm but the gated one.
    pub rms_norm_eps: f32,
    /// The layers, first to last.
    pub layer_types: Vec<LayerType>,
    /// Parameters of the Mamba-2 layers; present whenever there is such a layer.
    pub mamba2: Option<Mamba2Config>,
    /// Parameters of the selective-attention layers; present whenever there is such a layer.
    pub selective_attention: Option<SalConfig>,
    /// The token that starts a text, for tools that ask; it is never added by this crate.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text, in ascending order.
    pub eos_token_ids: Vec<u32>,
    /// The longest text the model saw in training, in tokens.
    pub max_trained_length: Option<usize>,
}

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerType {
    /// A Mamba-2 block.
    Mamba2,
    /// A selective attention layer (SAL).
    SelectiveAttention,
}

impl LayerType {
    /// The spelling in `layer_types`.
    pub fn name(self) -> &'static str {
        match self {
            LayerType::Mamba2 => "mamba2",
            LayerType::SelectiveAttention => "selective_attention",
        }
    }
}

/// Parameters of the Mamba-2 layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Mamba2Config {
    /// State size N of a channel.
    pub d_state: usize,
    /// Width of the causal convolution.
    pub d_conv: usize,
    /// Inner width as a multiple of the hidden size.
    pub expand: usize,
    /// Channels P of a head.
    pub head_dim: usize,
    /// Groups G that share B and C.
    pub n_groups: usize,
    /// Tokens of a chunk in prefill; changes rounding, never the mathematics.
    pub chunk_size: usize,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Whether `in_proj` and `out_proj` have biases.
    pub proj_bias: bool,
    /// Bounds of the step size; the upper one may be infinite.
    pub time_step_limit: (f32, f32),
    /// Epsilon of the gated norm.
    pub norm_eps: f32,
}

impl Mamba2Config {
    /// Inner width H·P.
    pub fn d_inner(&self, hidden: usize) -> usize {
        self.expand * hidden
    }

    /// Number of heads H.
    pub fn heads(&self, hidden: usize) -> usize {
        self.d_inner(hidden) / self.head_dim
    }

    /// Channels of the convolution: x, B and C.
    pub fn conv_channels(&self, hidden: usize) -> usize {
        self.d_inner(hidden) + 2 * self.n_groups * self.d_state
    }

    /// Rows of `in_proj`: z, x, B, C and dt.
    pub fn in_proj_rows(&self, hidden: usize) -> usize {
        self.d_inner(hidden) + self.conv_channels(hidden) + self.heads(hidden)
    }
}

/// Parameters of the selective-attention layers.
#[derive(Debug, Clone, PartialEq)]
pub struct SalConfig {
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; each serves `num_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens a query sees, itself included.
    pub window: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Base of the rotary embedding; `None` is no positional embedding.
    pub rope_theta: Option<f64>,
    /// The share of selected tokens that training asked for; informative.
    pub attention_budget: Option<f64>,
}

impl SalConfig {
    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }
}

impl Config {
    /// Parses the bytes of config.json.
    ///
    /// # Errors
    /// `Json`, `ConfigMissing`, `ConfigValue` or `UnsupportedModel`; each names the key.
    pub fn from_json(bytes: &[u8]) -> crate::Result<Config> {
        parse::config(bytes)
    }

    /// The same config in one fixed spelling: every key, sorted, floats exact. Equal configs give equal text, and
    /// [`Config::from_json`] of it gives this config back, so it serves as input of a fingerprint.
    pub fn to_canonical_json(&self) -> String {
        let layers: Vec<&str> = self.layer_types.iter().map(|l| l.name()).collect();
        let keys = sorted([
            ("model_type", json!("taipan")),
            ("vocab_size", json!(self.vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("tie_word_embeddings", json!(self.tie_word_embeddings)),
            ("rms_norm_eps", json!(f64::from(self.rms_norm_eps))),
            ("layer_types", json!(layers)),
            ("mamba2", json!(self.mamba2.as_ref().map(Mamba2Config::keys))),
            ("selective_attention", json!(self.selective_attention.as_ref().map(SalConfig::keys))),
            ("bos_token_id", json!(self.bos_token_id)),
            ("eos_token_id", json!(self.eos_token_ids)),
            ("max_trained_length", json!(self.max_trained_length)),
        ]);
        json!(keys).to_string()
    }

    /// Number of layers of a type.
    pub fn count(&self, kind: LayerType) -> usize {
        self.layer_types.iter().filter(|&&l| l == kind).count()
    }
}

/// Sorted here, because the order of serde_json's own map depends on a feature that any other crate can switch.
fn sorted<const N: usize>(keys: [(&'static str, Value); N]) -> BTreeMap<&'static str, Value> {
    BTreeMap::from(keys)
}

impl Mamba2Config {
    fn keys(&self) -> BTreeMap<&'static str, Value> {
        let (lo, hi) = self.time_step_limit;
        // An infinite limit is null in config.json.
        let hi = hi.is_finite().then_some(f64::from(hi));
        sorted([
            ("d_state", json!(self.d_state)),
            ("d_conv", json!(self.d_conv)),
            ("expand", json!(self.expand)),
            ("head_dim", json!(self.head_dim)),
            ("n_groups", json!(self.n_groups)),
            ("chunk_size", json!(self.chunk_size)),
            ("conv_bias", json!(self.conv_bias)),
            ("proj_bias", json!(self.proj_bias)),
            ("time_step_limit", json!([Some(f64::from(lo)), hi])),
            ("norm_eps", json!(f64::from(self.norm_eps))),
        ])
    }
}

impl SalConfig {
    fn keys(&self) -> BTreeMap<&'static str, Value> {
        sorted([
            ("num_heads", json!(self.num_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("head_dim", json!(self.head_dim)),
            ("window", json!(self.window)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("rope_theta", json!(self.rope_theta)),
            ("attention_budget", json!(self.attention_budget)),
        ])
    }
}
