//! Token embedding; also advances the session.

use taipan_shaders::{EMBED, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Matrix, Piece, Rows, read, row_stride, write};

/// `hidden[t, :] = scale · table[ids[t], :]`; then CONSUMED += TOKENS and the ids go into the ring of recent ids.
///
/// Shapes: table `[vocab, cols]`, ids `[tokens]`, hidden `[tokens, cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Embed {
    /// The embedding table.
    pub table: Matrix,
    /// Factor of every element.
    pub scale: f32,
    /// Token ids.
    pub ids: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// Ring of recent ids.
    pub recent: BufferId,
    /// Output.
    pub hidden: Rows,
}

static DECL: Decl = Decl {
    name: "embed",
    body: EMBED,
    shared: &[Shared::Rows, Shared::Control],
    matrix: true,
    bindings: &[read("ids"), write("control"), write("recent"), write("hidden")],
    workgroup: [64, 1, 1],
};

impl Kernel for Embed {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn matrix(&self) -> Option<Matrix> {
        Some(self.table)
    }

    fn launch(&self, piece: Piece) -> Launch {
        let eights = row_stride(self.hidden.cols as usize) as u32 / 8;
        Launch {
            overrides: vec![],
            params: vec![
                ("cols", self.hidden.cols.into()),
                ("first_row", piece.first_row.into()),
                ("rows", piece.rows.into()),
                ("recent", (taipan_reference::RECENT as u32).into()),
                ("scale", self.scale.into()),
            ],
            vectors: vec![],
            buffers: vec![Some(self.ids), Some(self.control), Some(self.recent), Some(self.hidden.buffer)],
            grid: Grid::Tokens { x: eights.div_ceil(64), per_group: 1, z: 1 },
        }
    }
}
