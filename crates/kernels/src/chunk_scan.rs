//! The outputs of a segment.

use taipan_shaders::{CHUNK_SCAN, CHUNK_SCAN_COOPERATIVE, Shared, WeightFormat};

use crate::launch::MAY_BE_COOPERATIVE;
use crate::{BufferId, Cooperative, Decl, Grid, Kernel, Launch, Mixer, Piece, Rows, Tuning, read, weight, write};

/// `y_i = exp(prefix_i)·(S_in·C_i) + Σ_{j ≤ i} exp(Σ_{j<k≤i} dA_k)·(C_i·B_j)·dt_j·x_j + D·x_i` (arXiv 2405.21060 §6).
///
/// Shapes: xbc `[tokens, channels]`, da `[tokens, 4·H]`, cb `[chunks·G·chunk, chunk]`, states `[chunks·H·P, N]`, y `[tokens, H·P]`.
#[derive(Clone, Copy, Debug)]
pub struct ChunkScan {
    /// Shapes and weights.
    pub mixer: Mixer,
    /// Tokens of a chunk, at most 64.
    pub chunk: u32,
    /// x, B and C after the convolution.
    pub xbc: Rows,
    /// Step sizes and decays.
    pub da: Rows,
    /// C·Bᵀ of every chunk.
    pub cb: Rows,
    /// The state at each chunk's start.
    pub states: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Output.
    pub y: Rows,
}

static DECL: Decl = Decl {
    name: "chunk_scan",
    body: CHUNK_SCAN,
    shared: &[Shared::Rows, Shared::Control],
    matrix: false,
    bindings: &[weight("per_head"), read("xbc"), read("da"), read("cb"), read("states"), read("control"), write("y")],
    workgroup: [8, 16, 1],
};

static COOPERATIVE: Decl =
    Decl { name: "chunk_scan (cooperative)", body: CHUNK_SCAN_COOPERATIVE, workgroup: [128, 1, 1], ..DECL };

impl Kernel for ChunkScan {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn cooperative(&self, _: Option<WeightFormat>, _: &Tuning) -> Option<Cooperative> {
        // Blocks of 16 by 16 that lie in one head.
        let fits =
            MAY_BE_COOPERATIVE && self.mixer.head_dim.is_multiple_of(16) && self.mixer.d_state.is_multiple_of(16);
        fits.then_some(Cooperative { decl: &COOPERATIVE, many: None })
    }

    fn launch(&self, _: Piece) -> Launch {
        let m = &self.mixer;
        Launch {
            overrides: vec![],
            params: vec![
                ("heads", m.heads.into()),
                ("head_dim", m.head_dim.into()),
                ("groups", m.groups.into()),
                ("d_state", m.d_state.into()),
                ("chunk", self.chunk.into()),
            ],
            vectors: vec![Some(m.per_head)],
            buffers: vec![
                Some(self.xbc.buffer),
                Some(self.da.buffer),
                Some(self.cb.buffer),
                Some(self.states.buffer),
                Some(self.control),
                Some(self.y.buffer),
            ],
            grid: Grid::Tokens { x: m.head_dim.div_ceil(64), per_group: self.chunk, z: m.heads },
        }
    }
}
