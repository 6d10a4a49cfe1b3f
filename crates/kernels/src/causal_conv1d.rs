//! Causal depthwise convolution over time, then SiLU or nothing.

use taipan_shaders::{CAUSAL_CONV1D, Shared};

use crate::{BufferId, Convolution, Decl, Grid, Kernel, Launch, Piece, Rows, read, weight, write};

/// `out[t, c] = silu(bias[c] + Σ_k weight[c, k] · raw[t − taps + 1 + k, c])` over some channels of raw; SiLU where there is one.
///
/// Shapes: raw `[tokens, raw.cols]`, conv_state `[taps, channels]`, out `[tokens, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct CausalConv1d {
    /// Shapes and weights.
    pub conv: Convolution,
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
            overrides: vec![("SILU", u8::from(self.conv.silu).into())],
            params: self.conv.words(self.raw),
            vectors: vec![Some(self.conv.weights)],
            buffers: vec![Some(self.raw.buffer), Some(self.conv_state), Some(self.control), Some(self.out.buffer)],
            grid: Grid::Tokens { x: self.conv.channels.div_ceil(64), per_group: 8, z: 1 },
        }
    }
}
