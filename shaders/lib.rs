//! The WGSL kernels of Taipan, one entry point per file, and how a file becomes a shader module.
//!
//! A module is `prelude + shared parts + body`, nothing is generated: a prelude says how a weight matrix is stored, so that
//! a body never names a dtype; the shared parts are small functions; the body is one kernel. Sizes and switches are WGSL
//! `override` constants. `README.md` beside this file defines the shape letters and the conventions.

#![forbid(unsafe_code)]

/// How the elements of a weight matrix are stored on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightFormat {
    /// Plain f32.
    F32,
    /// IEEE half precision, two to a u32.
    F16,
    /// bfloat16, two to a u32.
    Bf16,
}

impl WeightFormat {
    /// Every format, in the order in which permutations are listed.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Short name: `f32`, `f16`, `bf16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    const fn prelude(self) -> &'static str {
        match self {
            Self::F32 => include_str!("shared/weight_f32.wgsl"),
            Self::F16 => include_str!("shared/weight_f16.wgsl"),
            Self::Bf16 => include_str!("shared/weight_bf16.wgsl"),
        }
    }
}

/// A part that several kernels share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// `row_stride`: rows are padded to a multiple of 8 floats.
    Rows,
    /// `CONSUMED`, `TOKENS`, `first_position`; the body binds `control`.
    Control,
    /// Layout of a layer's selection.
    Selection,
    /// The token bucket.
    Bucket,
    /// `softplus`, `sigmoid`, `silu`.
    Activation,
    /// `rotation`; the body binds `table`.
    Rotary,
    /// `uniform_at`.
    Random,
}

impl Shared {
    const fn source(self) -> &'static str {
        match self {
            Self::Rows => include_str!("shared/rows.wgsl"),
            Self::Control => include_str!("shared/control.wgsl"),
            Self::Selection => include_str!("shared/selection.wgsl"),
            Self::Bucket => include_str!("shared/bucket.wgsl"),
            Self::Activation => include_str!("shared/activation.wgsl"),
            Self::Rotary => include_str!("shared/rotary.wgsl"),
            Self::Random => include_str!("shared/random.wgsl"),
        }
    }
}

/// Puts a module together: the weight prelude (for a kernel that reads a weight matrix), the shared parts, the body.
#[must_use]
pub fn assemble(format: Option<WeightFormat>, shared: &[Shared], body: &str) -> String {
    let mut source = String::from(format.map_or("", WeightFormat::prelude));
    for part in shared {
        source.push_str(part.source());
    }
    source.push_str(body);
    source
}

macro_rules! bodies {
    ($($name:ident = $path:literal;)*) => {
        $(
            #[doc = concat!("Body of `", $path, "`.")]
            pub const $name: &str = include_str!($path);
        )*
    };
}

bodies! {
    EMBED = "embed.wgsl";
    MATMUL = "matmul.wgsl";
    MATVEC = "matvec.wgsl";
    RMS_NORM = "rms_norm.wgsl";
    RMS_NORM_GATED = "rms_norm_gated.wgsl";
    SAMPLE = "sample.wgsl";
    CAUSAL_CONV1D = "conv1d/causal_conv1d.wgsl";
    CONV_APPEND = "conv1d/conv_append.wgsl";
    MIXER_UPDATE = "ssd/mixer_update.wgsl";
    CHUNK_CUMSUM = "ssd/chunk_cumsum.wgsl";
    BMM_CHUNK = "ssd/bmm_chunk.wgsl";
    CHUNK_STATE = "ssd/chunk_state.wgsl";
    STATE_PASSING = "ssd/state_passing.wgsl";
    CHUNK_SCAN = "ssd/chunk_scan.wgsl";
    TOKEN_GATE = "sal/token_gate.wgsl";
    TOKEN_GATE_KV = "sal/token_gate_kv.wgsl";
    COMPACT = "sal/compact.wgsl";
    ROTARY = "sal/rotary.wgsl";
    WINDOW_ATTENTION = "sal/window_attention.wgsl";
    KV_APPEND = "sal/kv_append.wgsl";
    ROUTE = "moe/route.wgsl";
    EXPERTS = "moe/experts.wgsl";
}
