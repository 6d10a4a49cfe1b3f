//! Rotates the keys of a segment by their positions.

use taipan_shaders::{ROTARY, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, Vector, read, weight, write};

/// Half-split rotary over the first channels of the first `heads` heads of every row. Shapes: table `[channels / 2]` pairs of words, kv `[tokens, kv.cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Rotary {
    /// Frequencies, as [`taipan_reference::rotary_table`] makes them: as many words as channels that rotate.
    pub table: Vector,
    /// Heads to rotate.
    pub heads: u32,
    /// Channels of a head.
    pub head_dim: u32,
    /// The session's counters.
    pub control: BufferId,
    /// Keys and values; the keys are rotated in place.
    pub kv: Rows,
}

static DECL: Decl = Decl {
    name: "rotary",
    body: ROTARY,
    shared: &[Shared::Rows, Shared::Rotary, Shared::Control],
    matrix: false,
    bindings: &[weight("table"), read("control"), write("kv")],
    workgroup: [64, 1, 1],
};

impl Kernel for Rotary {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: vec![
                ("heads", self.heads.into()),
                ("head_dim", self.head_dim.into()),
                ("rotary", self.table.len.into()),
                ("cols", self.kv.cols.into()),
            ],
            vectors: vec![Some(self.table)],
            buffers: vec![Some(self.control), Some(self.kv.buffer)],
            grid: Grid::Tokens { x: (self.heads * self.table.len / 2).div_ceil(64), per_group: 1, z: 1 },
        }
    }
}
