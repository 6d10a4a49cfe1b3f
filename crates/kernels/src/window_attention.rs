//! Attention of a segment's selected tokens, or of all of them, in a causal sliding window.

use taipan_shaders::{Shared, WINDOW_ATTENTION};

use crate::{Attention, BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, Selected, Vector, read, weight, write};

/// `out[r] = softmax(scale · q_r · k_j) v_j` over the positions `(i − window, i]` (arXiv 2410.18572 eq. 4).
///
/// Shapes: q and out `[selected, heads·head_dim]`, kv `[tokens, 2·kv_heads·head_dim]`, ring `[window, 2·kv_heads·head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct WindowAttention {
    /// Shapes.
    pub attention: Attention,
    /// Rotary frequencies, a word per channel that rotates; rotates the queries.
    pub table: Option<Vector>,
    /// Queries.
    pub q: Rows,
    /// Keys and values of the segment.
    pub kv: Rows,
    /// The ring of earlier keys and values.
    pub ring: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// The selection; none is all tokens.
    pub selected: Option<Selected>,
    /// Output.
    pub out: Rows,
}

impl WindowAttention {
    /// Queries of a workgroup: they are in workgroup memory, 16 KiB of it with everything else.
    #[must_use]
    pub const fn queries(head_dim: u32) -> u32 {
        if head_dim <= 160 { 16 } else { 8 }
    }
}

static DECL: Decl = Decl {
    name: "window_attention",
    body: WINDOW_ATTENTION,
    shared: &[Shared::Rows, Shared::Rotary, Shared::Selection, Shared::Control],
    matrix: false,
    bindings: &[
        weight("table"),
        read("q"),
        read("kv"),
        read("window"),
        read("control"),
        read("selection"),
        write("out"),
    ],
    workgroup: [64, 1, 1],
};

impl Kernel for WindowAttention {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        let a = &self.attention;
        let queries = Self::queries(a.head_dim);
        let mut overrides = vec![("ALL", u8::from(self.selected.is_none()).into()), ("QUERIES", queries.into())];
        overrides.extend(a.overrides(self.table));
        Launch {
            overrides,
            params: vec![
                ("heads", a.heads.into()),
                ("kv_heads", a.kv_heads.into()),
                ("head_dim", a.head_dim.into()),
                ("window", a.window.into()),
                ("capacity", self.selected.map_or(0, |s| s.capacity).into()),
                ("rotary", self.table.map_or(0, |table| table.len).into()),
                ("scale", a.scale.into()),
            ],
            vectors: vec![self.table],
            buffers: vec![
                Some(self.q.buffer),
                Some(self.kv.buffer),
                Some(self.ring),
                Some(self.control),
                self.selected.map(|s| s.selection),
                Some(self.out.buffer),
            ],
            grid: match self.selected {
                None => Grid::Tokens { x: a.heads, per_group: queries, z: 1 },
                Some(s) => Grid::Indirect { args: s.args, row: s.row },
            },
        }
    }
}
