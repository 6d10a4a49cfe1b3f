//! Causal depthwise convolution over time, then SiLU.

use taipan_shaders::{CAUSAL_CONV1D, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Mixer, Piece, Rows, read, weight, write};

/// `out[t, c] = silu(bias[c] + Σ_k weight[c, k] · raw[t − taps + 1 + k, c])` over the x, B and C channels.
///
/// Shapes: raw `[tokens, raw.cols]`, conv_state `[taps, channels]`, out `[tokens, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct CausalConv1d {
    /// Shapes and weights.
    pub mixer: Mixer,
    /// The in_proj output.
    pub raw: Rows,
    /// Ring of raw rows.
    pub conv_state: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// Output.
    pub out: Rows,
}

static DECL: Decl = Decl {
    name: "causal_conv1d",
    body: CAUSAL_CONV1D,
    shared: &[Shared::Rows, Shared::Activation, Shared::Control],
    matrix: false,
    bindings: &[weight("conv"), read("raw"), read("conv_state"), read("control"), write("out")],
    workgroup: [64, 1, 1],
};

impl Kernel for CausalConv1d {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: self.mixer.conv_words(self.raw),
            vectors: vec![Some(self.mixer.conv)],
            buffers: vec![Some(self.raw.buffer), Some(self.conv_state), Some(self.control), Some(self.out.buffer)],
            grid: Grid::Tokens { x: self.mixer.channels().div_ceil(64), per_group: 8, z: 1 },
        }
    }
}
