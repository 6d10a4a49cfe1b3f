//! `config.json`: every number that shapes a model, checked before anything is computed from it.
//!
//! After [`Config::from_json`] all sizes are positive, divide where they must, and are small enough that no product of
//! them overflows `usize`, also where that has 32 bits. Unknown keys are ignored. Weights are not looked at here.

mod bamba;
mod canonical;
mod falcon;
#[cfg(test)]
mod family_tests;
mod granite;
mod hybrid;
mod mamba2;
mod names;
mod nemotron;
mod parse;
mod section;
mod state_spaces;
mod taipan;
mod tensors;
#[cfg(test)]
mod tests;
mod zamba2;

use taipan_reference::{GateMode, Routing};

pub use names::Family;
pub(crate) use names::{ExpertNames, HEAD, Names};
pub(crate) use parse::token_ids;

/// A model's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where it comes from: how its tensors are named.
    pub family: Family,
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
    /// Parameters of the layers of full attention; present whenever there is such a layer.
    pub attention: Option<AttentionConfig>,
    /// The MLP that follows every layer, or is a layer of its own; that of selective attention is described there.
    pub mlp: Option<MlpConfig>,
    /// Experts: beside the MLP that follows every layer, or in layers of their own.
    pub experts: Option<ExpertsConfig>,
    /// Blocks that several layers share; present whenever there is such a layer.
    pub shared: Option<SharedConfig>,
    /// Constant factors.
    pub scales: Scales,
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
    /// Causal attention over the whole text.
    Attention,
    /// A Mamba-2 block and attention over the whole text, side by side.
    Parallel,
    /// An MLP that is a layer of its own.
    Mlp,
    /// Experts that are a layer of their own.
    Experts,
    /// A Mamba-2 block behind attention and an MLP whose weights other layers use as well.
    Shared,
}

impl LayerType {
    /// All of them.
    pub const ALL: [LayerType; 7] = [
        LayerType::Mamba2,
        LayerType::SelectiveAttention,
        LayerType::Attention,
        LayerType::Parallel,
        LayerType::Mlp,
        LayerType::Experts,
        LayerType::Shared,
    ];

    /// The spelling in `layer_types`.
    pub fn name(self) -> &'static str {
        match self {
            LayerType::Mamba2 => "mamba2",
            LayerType::SelectiveAttention => "selective_attention",
            LayerType::Attention => "attention",
            LayerType::Parallel => "parallel",
            LayerType::Mlp => "mlp",
            LayerType::Experts => "experts",
            LayerType::Shared => "shared",
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
    /// Heads H.
    pub num_heads: usize,
    /// Channels P of a head.
    pub head_dim: usize,
    /// Groups G that share B and C.
    pub n_groups: usize,
    /// Tokens of a chunk in prefill; changes rounding, never the mathematics.
    pub chunk_size: usize,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Whether `in_proj` has a bias.
    pub in_bias: bool,
    /// Whether `out_proj` has a bias.
    pub out_bias: bool,
    /// Order of gate and norm, and whether there is a norm.
    pub gate: GateMode,
    /// Bounds of the step size; the upper one may be infinite.
    pub time_step_limit: (f32, f32),
    /// Epsilon of the gated norm.
    pub norm_eps: f32,
    /// Constant factors.
    pub scales: MixerScales,
}

/// Constant factors in a mixer; 1 unless a checkpoint was trained with others.
#[derive(Debug, Clone, PartialEq)]
pub struct MixerScales {
    /// Of the input.
    pub input: f32,
    /// Of z, x, B, C and dt as projected.
    pub projected: [f32; 5],
    /// Of the output.
    pub output: f32,
}

impl Default for MixerScales {
    fn default() -> Self {
        Self { input: 1.0, projected: [1.0; 5], output: 1.0 }
    }
}

impl Mamba2Config {
    /// Inner width H·P.
    pub fn d_inner(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Channels of the convolution: x, B and C.
    pub fn conv_channels(&self) -> usize {
        self.d_inner() + 2 * self.n_groups * self.d_state
    }

    /// Rows of `in_proj`: z, x, B, C and dt.
    pub fn in_proj_rows(&self) -> usize {
        self.d_inner() + self.conv_channels() + self.num_heads
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

/// Parameters of the layers of full attention.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; each serves `num_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Rotary positions, if there are any.
    pub rope: Option<Rope>,
    /// Whether the projections of queries, keys and values have biases.
    pub bias: bool,
    /// Whether that of the output has one.
    pub out_bias: bool,
    /// Taps of the causal convolution that queries, keys and values go through, if they do.
    pub conv: Option<usize>,
    /// Factor of the input.
    pub in_scale: f32,
    /// Factor of the output.
    pub out_scale: f32,
}

/// Rotary positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Their base.
    pub theta: f64,
    /// Channels of a head that rotate, from the first on.
    pub channels: usize,
}

impl AttentionConfig {
    /// The usual one, of so many query heads, key heads and channels of a head: scores are scaled by the root of the last,
    /// nothing rotates, and there are no biases.
    pub fn plain([num_heads, num_key_value_heads, head_dim]: [usize; 3]) -> Self {
        let scale = (head_dim as f32).sqrt().recip();
        let (bias, out_bias, conv, rope) = (false, false, None, None);
        let (in_scale, out_scale) = (1.0, 1.0);
        Self { num_heads, num_key_value_heads, head_dim, scale, rope, bias, out_bias, conv, in_scale, out_scale }
    }

    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }
}

/// Parameters of an MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Inner width.
    pub intermediate_size: usize,
    /// What is between its projections.
    pub activation: Activation,
    /// Whether they have biases.
    pub bias: bool,
    /// Factor of the gate.
    pub gate_scale: f32,
    /// Factor of the output.
    pub out_scale: f32,
}

/// The inside of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu(gate) · up`.
    SiluGated,
    /// `max(up, 0)²`, without a gate.
    Relu2,
    /// `gelu(gate) · up`, gelu with the error function.
    GeluGated,
}

impl MlpConfig {
    /// The usual one: gated, without biases.
    pub fn gated(intermediate_size: usize) -> Self {
        Self { intermediate_size, activation: Activation::SiluGated, bias: false, gate_scale: 1.0, out_scale: 1.0 }
    }

    /// Rows of the projections up.
    pub fn up_rows(&self) -> usize {
        self.intermediate_size * if self.activation == Activation::Relu2 { 1 } else { 2 }
    }
}

/// Parameters of layers of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsConfig {
    /// Which experts a token goes to.
    pub routing: Routing,
    /// One expert.
    pub expert: MlpConfig,
    /// Width in which experts compute, where it is not the hidden size.
    pub latent: Option<usize>,
    /// The MLP that every token goes through as well.
    pub shared: Option<MlpConfig>,
}

/// Blocks of attention and an MLP over the stream beside the embedded tokens, whose weights several layers use in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedConfig {
    /// How many blocks there are.
    pub blocks: usize,
    /// Width of the low-rank products that a layer adds to projections of its block.
    pub adapter_rank: usize,
    /// Whether queries, keys and values have such products; the projection up of the MLP always does.
    pub attention_adapters: bool,
}

/// Constant factors that some checkpoints were trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    /// Of embedded tokens.
    pub embedding: f32,
    /// Of what a sub-layer adds to the residual stream.
    pub residual: f32,
    /// Of the logits.
    pub logits: f32,
}

impl Default for Scales {
    fn default() -> Self {
        Self { embedding: 1.0, residual: 1.0, logits: 1.0 }
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

    /// No layer parameters and no tokens yet; what a family's parser fills in.
    fn bare(family: Family, vocab_size: usize, hidden_size: usize, layer_types: Vec<LayerType>) -> Config {
        Config {
            family,
            vocab_size,
            hidden_size,
            tie_word_embeddings: false,
            rms_norm_eps: 1e-5,
            layer_types,
            mamba2: None,
            selective_attention: None,
            attention: None,
            mlp: None,
            experts: None,
            shared: None,
            scales: Scales::default(),
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            max_trained_length: None,
        }
    }

    /// Name of the tensor that embeds tokens.
    pub fn embedding_tensor(&self) -> &'static str {
        self.family.names().embedding
    }

    /// The MLP that follows every layer, where it is none of its own.
    pub fn following_mlp(&self) -> Option<&MlpConfig> {
        let elsewhere = self.count(LayerType::Mlp) + self.count(LayerType::Shared) > 0;
        self.mlp.as_ref().filter(|_| !elsewhere && self.following_experts().is_none())
    }

    /// The experts that follow every layer, where they are no layers of their own.
    pub fn following_experts(&self) -> Option<&ExpertsConfig> {
        self.experts.as_ref().filter(|_| self.count(LayerType::Experts) == 0)
    }

    /// Number of layers of a type.
    pub fn count(&self, kind: LayerType) -> usize {
        self.layer_types.iter().filter(|&&l| l == kind).count()
    }
}
