//! Step sizes and decays of a segment, chunk by chunk.

use taipan_shaders::{CHUNK_CUMSUM, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Mixer, Piece, Rows, read, weight, write};

/// `da[t] = dt | dA | prefix | suffix`, each `[H]` (arXiv 2405.21060 §6).
///
/// Shapes: raw `[tokens, raw.cols]`, da `[tokens, 4·H]`.
#[derive(Clone, Copy, Debug)]
pub struct ChunkCumsum {
    /// Shapes and weights.
    pub mixer: Mixer,
    /// Tokens of a chunk.
    pub chunk: u32,
    /// The in_proj output.
    pub raw: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Output.
    pub da: Rows,
}

static DECL: Decl = Decl {
    name: "chunk_cumsum",
    body: CHUNK_CUMSUM,
    shared: &[Shared::Rows, Shared::Activation, Shared::Control],
    matrix: false,
    bindings: &[weight("per_head"), read("raw"), read("control"), write("da")],
    workgroup: [16, 16, 1],
};

impl Kernel for ChunkCumsum {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        let mut params = vec![
            ("heads", self.mixer.heads.into()),
            ("chunk", self.chunk.into()),
            ("raw_cols", self.raw.cols.into()),
            ("raw_at", self.mixer.dt_at().into()),
        ];
        params.extend(self.mixer.dt_words());
        Launch {
            overrides: vec![],
            params,
            vectors: vec![Some(self.mixer.per_head)],
            buffers: vec![Some(self.raw.buffer), Some(self.control), Some(self.da.buffer)],
            grid: Grid::Tokens { x: self.mixer.heads.div_ceil(16), per_group: self.chunk, z: 1 },
        }
    }
}
