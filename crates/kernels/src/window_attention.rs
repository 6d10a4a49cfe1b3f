//! Attention of the selected tokens in a causal sliding window.

use taipan_shaders::{Shared, WINDOW_ATTENTION};

use crate::{Attention, BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, Selected, Vector, read, weight, write};

/// `out[r] = softmax(scale · q_r · k_j) v_j` over the positions `(i − window, i]` (arXiv 2410.18572 eq. 4).
///
/// Shapes: q and out `[selected, heads·head_dim]`, kv `[tokens, 2·kv_heads·head_dim]`, ring `[window, 2·kv_heads·head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct WindowAttention {
    /// Shapes.
    pub attention: Attention,
    /// Rotary frequencies; rotates the queries.
    pub table: Option<Vector>,
    /// Queries.
    pub q: Rows,
    /// Keys and values of the segment; `None` for one token whose row is in the ring already.
    pub kv: Option<Rows>,
    /// The ring of earlier keys and values.
    pub ring: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// The selection.
    pub selected: Selected,
    /// Output.
    pub out: Rows,
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
        Launch {
            overrides: vec![
                ("ROTARY", u8::from(self.table.is_some()).into()),
                ("SEGMENT", u8::from(self.kv.is_some()).into()),
                ("HEAD_DIM", a.head_dim.into()),
            ],
            params: vec![
                ("heads", a.heads.into()),
                ("kv_heads", a.kv_heads.into()),
                ("head_dim", a.head_dim.into()),
                ("window", a.window.into()),
                ("capacity", self.selected.capacity.into()),
                ("scale", a.scale.into()),
            ],
            vectors: vec![self.table],
            buffers: vec![
                Some(self.q.buffer),
                self.kv.map(|kv| kv.buffer),
                Some(self.ring),
                Some(self.control),
                Some(self.selected.selection),
                Some(self.out.buffer),
            ],
            grid: if self.kv.is_some() {
                Grid::Indirect { args: self.selected.args, row: self.selected.row }
            } else {
                Grid::Fixed([1, a.heads, 1])
            },
        }
    }
}
