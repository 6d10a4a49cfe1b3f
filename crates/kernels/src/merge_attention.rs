//! The parts of one token's attention put together.

use taipan_shaders::{MERGE_ATTENTION, Shared};

use crate::{Attention, BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, read, write};

/// `out = Σ_s w_s·acc_s / Σ_s w_s·total_s` with `w_s = exp(highest_s − max highest)`, over the parts s of the positions that
/// [`crate::TokenAttention`] divided (the same softmax as arXiv 2410.18572 eq. 4, in pieces).
///
/// Shapes: parts `[count, heads·head_dim + 2·heads]`: acc, highest, total; out `[1, heads·head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct MergeAttention {
    /// Shapes.
    pub attention: Attention,
    /// Parts.
    pub count: u32,
    /// The parts.
    pub parts: Rows,
    /// Nothing is done where it has no token; none is always one.
    pub selection: Option<BufferId>,
    /// Output.
    pub out: Rows,
}

impl MergeAttention {
    /// Most parts.
    pub const MOST: u32 = 32;

    /// Columns of a part.
    #[must_use]
    pub const fn part_cols(heads: u32, head_dim: u32) -> u32 {
        heads * (head_dim + 2)
    }
}

static DECL: Decl = Decl {
    name: "merge_attention",
    body: MERGE_ATTENTION,
    shared: &[Shared::Rows, Shared::Selection],
    matrix: false,
    bindings: &[read("parts"), read("selection"), write("out")],
    workgroup: [64, 1, 1],
};

impl Kernel for MergeAttention {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        let a = &self.attention;
        Launch {
            overrides: vec![("ALL", u8::from(self.selection.is_none()).into()), ("PARTS", self.count.into())],
            params: vec![("heads", a.heads.into()), ("head_dim", a.head_dim.into())],
            vectors: vec![],
            buffers: vec![Some(self.parts.buffer), self.selection, Some(self.out.buffer)],
            grid: Grid::Fixed([a.heads, 1, 1]),
        }
    }
}
