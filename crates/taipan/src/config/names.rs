//! How a family spells the names of its tensors.

/// A family of checkpoints: a spelling of config.json and of tensor names. What is computed follows from the numbers of a
/// [`super::Config`], never from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Taipan's own format.
    Taipan,
    /// `Mamba2ForCausalLM` of transformers.
    Mamba2,
    /// The layout of the original Mamba-2 checkpoints.
    StateSpaces,
    /// `GraniteMoeHybridForCausalLM`: Granite 4.0.
    GraniteMoeHybrid,
    /// `BambaForCausalLM`.
    Bamba,
    /// `FalconH1ForCausalLM`.
    FalconH1,
    /// `NemotronHForCausalLM`.
    NemotronH,
    /// `Zamba2ForCausalLM`.
    Zamba2,
}

/// The names of a family's tensors; those of a layer stand below `layer` and the layer's number.
#[derive(Debug)]
pub(crate) struct Names {
    /// Token embedding.
    pub(crate) embedding: &'static str,
    /// In front of a layer's number.
    pub(crate) layer: &'static str,
    /// Pre-norm of a layer.
    pub(crate) norm: &'static str,
    /// In front of a mixer's tensors.
    pub(crate) mixer: &'static str,
    /// In front of the projections of an attention layer.
    pub(crate) attention: &'static str,
    /// Projections of queries, keys and values, in three tensors or, one upon the other, in one.
    pub(crate) qkv: &'static [&'static str],
    /// Projection of what is attended to.
    pub(crate) attended: &'static str,
    /// Norm in front of the MLP.
    pub(crate) mlp_norm: &'static str,
    /// Gate and up projection, in two tensors or, one upon the other, in one.
    pub(crate) gate_up: &'static [&'static str],
    /// Whether the gate is the lower half of such a tensor.
    pub(crate) gate_below: bool,
    /// Down projection.
    pub(crate) down: &'static str,
    /// Tensors of layers of experts.
    pub(crate) experts: ExpertNames,
    /// Tensors of blocks that layers share.
    pub(crate) shared: SharedNames,
    /// Norm in front of the head.
    pub(crate) final_norm: &'static str,
}

/// Names of a layer of experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertNames {
    /// Scores the experts.
    pub(crate) router: &'static str,
    /// Added to the scores for choosing.
    pub(crate) correction: &'static str,
    /// Up and down projections of all experts in one tensor each, or, with a `#` for its number, of one expert.
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    /// Into and out of the width in which experts compute.
    pub(crate) latent: [&'static str; 2],
    /// The MLP that every token goes through.
    pub(crate) shared_up: &'static [&'static str],
    pub(crate) shared_down: &'static str,
}

/// Names of layers that share a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedNames {
    /// In front of the norm and the mixer of such a layer.
    pub(crate) own: &'static str,
    /// In front of a block, in the layer that has it first.
    pub(crate) block: &'static str,
    /// The two projections of an adapter of queries, keys and values, and of the projection up, each with a `#` for the number of
    /// the layer among those that share.
    pub(crate) qkv_adapters: [[&'static str; 2]; 3],
    pub(crate) up_adapter: [&'static str; 2],
    /// From the block to the norm of the layer.
    pub(crate) out: &'static str,
}

/// The head, where it is a matrix of its own; all families agree on it.
pub(crate) const HEAD: &str = "lm_head.weight";

impl Family {
    /// The families whose checkpoints others publish.
    pub const PUBLISHED: &'static [Family] = &[
        Family::Mamba2,
        Family::StateSpaces,
        Family::GraniteMoeHybrid,
        Family::Bamba,
        Family::FalconH1,
        Family::NemotronH,
        Family::Zamba2,
    ];

    /// The spelling in `model_type`; the original layout has none and goes by its publisher's name.
    pub fn name(self) -> &'static str {
        match self {
            Family::Taipan => "taipan",
            Family::Mamba2 => "mamba2",
            Family::StateSpaces => "state-spaces",
            Family::GraniteMoeHybrid => "granitemoehybrid",
            Family::Bamba => "bamba",
            Family::FalconH1 => "falcon_h1",
            Family::NemotronH => "nemotron_h",
            Family::Zamba2 => "zamba2",
        }
    }

    pub(crate) fn names(self) -> &'static Names {
        match self {
            Family::Taipan => &TAIPAN,
            Family::Mamba2 => &MAMBA2,
            Family::StateSpaces => &STATE_SPACES,
            Family::GraniteMoeHybrid => &GRANITE,
            // The same blocks in another arrangement.
            Family::Bamba | Family::FalconH1 => &BAMBA,
            Family::NemotronH => &NEMOTRON,
            Family::Zamba2 => &ZAMBA2,
        }
    }

    /// Whether a checkpoint may hold a head although its config ties it to the embedding: the same matrix once more.
    pub(crate) fn may_store_tied_head(self) -> bool {
        self != Family::Taipan
    }
}

const TAIPAN: Names = Names {
    embedding: "embedding.weight",
    layer: "layers.",
    norm: "norm.weight",
    mixer: "mixer.",
    attention: "attn.",
    qkv: &["q_proj.weight", "k_proj.weight", "v_proj.weight"],
    attended: "o_proj.weight",
    mlp_norm: "mlp_norm.weight",
    gate_up: &["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    gate_below: false,
    down: "mlp.down_proj.weight",
    experts: GRANITE_EXPERTS,
    shared: SHARED,
    final_norm: "norm.weight",
};

const MAMBA2: Names = Names {
    embedding: "backbone.embeddings.weight",
    layer: "backbone.layers.",
    final_norm: "backbone.norm_f.weight",
    ..TAIPAN
};

const STATE_SPACES: Names = Names {
    embedding: "backbone.embedding.weight",
    attention: "mixer.",
    qkv: &["in_proj.weight"],
    attended: "out_proj.weight",
    mlp_norm: "norm2.weight",
    gate_up: &["mlp.fc1.weight"],
    gate_below: true,
    down: "mlp.fc2.weight",
    ..MAMBA2
};

const GRANITE: Names = Names {
    embedding: "model.embed_tokens.weight",
    layer: "model.layers.",
    norm: "input_layernorm.weight",
    mixer: "mamba.",
    attention: "self_attn.",
    qkv: TAIPAN.qkv,
    attended: TAIPAN.attended,
    mlp_norm: "post_attention_layernorm.weight",
    gate_up: &["shared_mlp.input_linear.weight"],
    gate_below: false,
    down: "shared_mlp.output_linear.weight",
    experts: GRANITE_EXPERTS,
    shared: SHARED,
    final_norm: "model.norm.weight",
};

const BAMBA: Names = Names {
    mlp_norm: "pre_ff_layernorm.weight",
    gate_up: &["feed_forward.gate_proj.weight", "feed_forward.up_proj.weight"],
    down: "feed_forward.down_proj.weight",
    final_norm: "model.final_layernorm.weight",
    ..GRANITE
};

const NEMOTRON: Names = Names {
    attention: "mixer.",
    gate_up: &["mixer.up_proj.weight"],
    down: "mixer.down_proj.weight",
    experts: ExpertNames {
        router: "mixer.gate.weight",
        correction: "mixer.gate.e_score_correction_bias",
        up: "mixer.experts.#.up_proj.weight",
        down: "mixer.experts.#.down_proj.weight",
        latent: ["mixer.fc1_latent_proj.weight", "mixer.fc2_latent_proj.weight"],
        shared_up: &["mixer.shared_experts.up_proj.weight"],
        shared_down: "mixer.shared_experts.down_proj.weight",
    },
    ..MAMBA2
};

const ZAMBA2: Names = Names { gate_up: &["feed_forward.gate_up_proj.weight"], ..BAMBA };

const SHARED: SharedNames = SharedNames {
    own: "mamba_decoder.",
    block: "shared_transformer.",
    qkv_adapters: [
        ["self_attn.linear_q_adapter_list.#.0.weight", "self_attn.linear_q_adapter_list.#.1.weight"],
        ["self_attn.linear_k_adapter_list.#.0.weight", "self_attn.linear_k_adapter_list.#.1.weight"],
        ["self_attn.linear_v_adapter_list.#.0.weight", "self_attn.linear_v_adapter_list.#.1.weight"],
    ],
    up_adapter: [
        "feed_forward.gate_up_proj_adapter_list.#.0.weight",
        "feed_forward.gate_up_proj_adapter_list.#.1.weight",
    ],
    out: "linear.weight",
};

const GRANITE_EXPERTS: ExpertNames = ExpertNames {
    router: "block_sparse_moe.router.layer.weight",
    correction: "",
    up: "block_sparse_moe.input_linear.weight",
    down: "block_sparse_moe.output_linear.weight",
    latent: ["", ""],
    shared_up: &["shared_mlp.input_linear.weight"],
    shared_down: "shared_mlp.output_linear.weight",
};
