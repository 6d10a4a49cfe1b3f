//! What each chunk adds to the state.

use taipan_shaders::{CHUNK_STATE, CHUNK_STATE_COOPERATIVE, Shared, WeightFormat};

use crate::launch::MAY_BE_COOPERATIVE;
use crate::{BufferId, Cooperative, Decl, Grid, Kernel, Launch, Mixer, Piece, Rows, Tuning, read, write};

/// `states[chunk, h, p, n] = Σ_t exp(suffix_t) · dt_t · x_t[h, p] · B_t[g, n]` (arXiv 2405.21060 §6).
///
/// Shapes: xbc `[tokens, channels]`, da `[tokens, 4·H]`, states `[chunks·H·P, N]`.
#[derive(Clone, Copy, Debug)]
pub struct ChunkState {
    /// Shapes.
    pub mixer: Mixer,
    /// Tokens of a chunk.
    pub chunk: u32,
    /// x, B and C after the convolution.
    pub xbc: Rows,
    /// Step sizes and decays.
    pub da: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Output.
    pub states: Rows,
}

static DECL: Decl = Decl {
    name: "chunk_state",
    body: CHUNK_STATE,
    shared: &[Shared::Rows, Shared::Control],
    matrix: false,
    bindings: &[read("xbc"), read("da"), read("control"), write("states")],
    workgroup: [8, 16, 1],
};

static COOPERATIVE: Decl =
    Decl { name: "chunk_state (cooperative)", body: CHUNK_STATE_COOPERATIVE, workgroup: [128, 1, 1], ..DECL };

impl Kernel for ChunkState {
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
            vectors: vec![],
            buffers: vec![Some(self.xbc.buffer), Some(self.da.buffer), Some(self.control), Some(self.states.buffer)],
            grid: Grid::Tokens {
                x: m.head_dim.div_ceil(64) * m.d_state.div_ceil(64),
                per_group: self.chunk,
                z: m.heads,
            },
        }
    }
}
