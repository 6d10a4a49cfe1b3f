//! From wishes to a list of selected tokens.

use taipan_shaders::{COMPACT, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Piece, read, write};

/// The token bucket, then the selected tokens' indices in order and the sizes of the dispatches over them.
///
/// Shapes: selection see [`crate::selection`], sal see [`taipan_reference::sal`], args `[3, 4]`: q_proj, attention, o_proj.
#[derive(Clone, Copy, Debug)]
pub struct Compact {
    /// Tokens the selection has room for.
    pub capacity: u32,
    /// Tiles of 128 rows of the query projection.
    pub q_tiles: u32,
    /// Tiles of 128 rows of the output projection.
    pub o_tiles: u32,
    /// Attention heads.
    pub heads: u32,
    /// Selected tokens of a workgroup of the attention, see [`crate::WindowAttention::queries`].
    pub queries: u32,
    /// The session's counters.
    pub control: BufferId,
    /// The bucket.
    pub sal: BufferId,
    /// In: wishes. Out: masks, indices, count.
    pub selection: BufferId,
    /// Output: indirect arguments.
    pub args: BufferId,
}

impl Compact {
    /// Most tokens of a segment: the shader has 32 of them to an invocation.
    pub const MOST: u32 = 8192;
}

static DECL: Decl = Decl {
    name: "compact",
    body: COMPACT,
    shared: &[Shared::Selection, Shared::Bucket, Shared::Control],
    matrix: false,
    bindings: &[read("control"), write("sal"), write("selection"), write("args")],
    workgroup: [256, 1, 1],
};

impl Kernel for Compact {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        debug_assert!(self.capacity <= Self::MOST, "compact: a segment of {} tokens", self.capacity);
        Launch {
            overrides: vec![],
            params: vec![
                ("capacity", self.capacity.into()),
                ("q_tiles", self.q_tiles.into()),
                ("o_tiles", self.o_tiles.into()),
                ("heads", self.heads.into()),
                ("queries", self.queries.into()),
            ],
            vectors: vec![],
            buffers: vec![Some(self.control), Some(self.sal), Some(self.selection), Some(self.args)],
            grid: Grid::Fixed([1, 1, 1]),
        }
    }
}
