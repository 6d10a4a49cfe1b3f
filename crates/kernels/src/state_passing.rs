//! Carries the state across the chunks of a segment.

use taipan_shaders::{STATE_PASSING, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Mixer, Piece, Rows, read, write};

/// `states[chunk]` becomes the state at the chunk's start; ssm goes from entry to exit (arXiv 2405.21060 §6).
///
/// Shapes: da `[tokens, 4·H]`, states `[chunks·H·P, N]`, ssm `[H·P, N]`.
#[derive(Clone, Copy, Debug)]
pub struct StatePassing {
    /// Shapes.
    pub mixer: Mixer,
    /// Tokens of a chunk.
    pub chunk: u32,
    /// Step sizes and decays.
    pub da: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// In: what each chunk adds. Out: the state at its start.
    pub states: Rows,
    /// The state.
    pub ssm: BufferId,
}

static DECL: Decl = Decl {
    name: "state_passing",
    body: STATE_PASSING,
    shared: &[Shared::Rows, Shared::Control],
    matrix: false,
    bindings: &[read("da"), read("control"), write("states"), write("ssm")],
    workgroup: [64, 1, 1],
};

impl Kernel for StatePassing {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        let m = &self.mixer;
        Launch {
            overrides: vec![],
            params: vec![
                ("heads", m.heads.into()),
                ("head_dim", m.head_dim.into()),
                ("d_state", m.d_state.into()),
                ("chunk", self.chunk.into()),
            ],
            vectors: vec![],
            buffers: vec![Some(self.da.buffer), Some(self.control), Some(self.states.buffer), Some(self.ssm)],
            // Rows are padded to eights.
            grid: Grid::Fixed([(m.inner() * m.d_state.div_ceil(8) * 2).div_ceil(64), 1, 1]),
        }
    }
}
