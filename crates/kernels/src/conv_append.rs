//! Keeps the last raw rows of a segment for the next convolution.

use taipan_shaders::{CONV_APPEND, Shared};

use crate::{BufferId, Convolution, Decl, Grid, Kernel, Launch, Piece, Rows, read, write};

/// `conv_state[position % taps] = raw[t]` for the last `taps` tokens. Shapes: raw `[tokens, raw.cols]`, conv_state `[taps, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct ConvAppend {
    /// Shapes.
    pub conv: Convolution,
    /// The in_proj output.
    pub raw: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Ring of raw rows.
    pub conv_state: BufferId,
}

static DECL: Decl = Decl {
    name: "conv_append",
    body: CONV_APPEND,
    shared: &[Shared::Rows, Shared::Control],
    matrix: false,
    bindings: &[read("raw"), read("control"), write("conv_state")],
    workgroup: [64, 1, 1],
};

impl Kernel for ConvAppend {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: self.conv.words(self.raw),
            vectors: vec![],
            buffers: vec![Some(self.raw.buffer), Some(self.control), Some(self.conv_state)],
            grid: Grid::Fixed([self.conv.channels.div_ceil(64), self.conv.taps, 1]),
        }
    }
}
