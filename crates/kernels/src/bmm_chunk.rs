//! C·Bᵀ of every chunk.

use taipan_shaders::{BMM_CHUNK, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Mixer, Piece, Rows, read, write};

/// `cb[chunk, g, i, j] = C_i · B_j` for `j ≤ i` (arXiv 2405.21060 §6). Shapes: xbc `[tokens, channels]`, cb `[chunks·G·chunk, chunk]`.
#[derive(Clone, Copy, Debug)]
pub struct BmmChunk {
    /// Shapes.
    pub mixer: Mixer,
    /// Tokens of a chunk, at most 64.
    pub chunk: u32,
    /// x, B and C after the convolution.
    pub xbc: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Output.
    pub cb: Rows,
}

static DECL: Decl = Decl {
    name: "bmm_chunk",
    body: BMM_CHUNK,
    shared: &[Shared::Rows, Shared::Control],
    matrix: false,
    bindings: &[read("xbc"), read("control"), write("cb")],
    workgroup: [8, 16, 1],
};

impl Kernel for BmmChunk {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: vec![
                ("groups", self.mixer.groups.into()),
                ("d_state", self.mixer.d_state.into()),
                ("inner", self.mixer.inner().into()),
                ("chunk", self.chunk.into()),
            ],
            vectors: vec![],
            buffers: vec![Some(self.xbc.buffer), Some(self.control), Some(self.cb.buffer)],
            grid: Grid::Tokens { x: self.mixer.groups, per_group: self.chunk, z: 1 },
        }
    }
}
