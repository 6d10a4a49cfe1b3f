//! Attention of the selected tokens, or of all, in a causal sliding window.

use taipan_shaders::{Shared, WINDOW_ATTENTION};

use crate::tuning::NEVER;
use crate::{
    Attention, BufferId, Call, Decl, Grid, Kernel, Launch, MergeAttention, Piece, Rows, Selected, Tuning, Vector, read,
    weight, write,
};

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
    /// Keys and values of the segment; `None` for one token whose row is in the ring already.
    pub kv: Option<Rows>,
    /// The ring of earlier keys and values.
    pub ring: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// The selection; none is all tokens.
    pub selected: Option<Selected>,
    /// Output.
    pub out: Rows,
    /// For one token: room for what parts of its positions come to, see [`crate::MergeAttention`]. A device that is better
    /// off with many workgroups divides the positions among them and merges the parts.
    pub parts: Option<Rows>,
}

impl WindowAttention {
    /// Parts that the positions are divided into on a device.
    fn divided(&self, tuning: &Tuning) -> u32 {
        let most = self.attention.window.div_ceil(tuning.attention_part).min(MergeAttention::MOST);
        self.parts.map_or(1, |_| most)
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

    fn launch(&self, piece: Piece) -> Launch {
        self.launch_tuned(piece, &Tuning { attention_part: NEVER, ..Tuning::default() })
    }

    fn rest(&self, tuning: &Tuning) -> Option<Call> {
        let (count, parts) = (self.divided(tuning), self.parts?);
        let (attention, selection) = (self.attention, self.selected.map(|s| s.selection));
        (count > 1).then(|| MergeAttention { attention, count, parts, selection, out: self.out }.into())
    }

    fn launch_tuned(&self, _: Piece, tuning: &Tuning) -> Launch {
        let a = &self.attention;
        let count = self.divided(tuning);
        let out = self.parts.filter(|_| count > 1).unwrap_or(self.out);
        Launch {
            overrides: vec![
                ("ROTARY", u8::from(self.table.is_some()).into()),
                ("ALL", u8::from(self.selected.is_none()).into()),
                ("SEGMENT", u8::from(self.kv.is_some()).into()),
                ("PARTS", count.into()),
                ("HEAD_DIM", a.head_dim.into()),
                ("FOURS", u8::from(a.head_dim.is_multiple_of(4)).into()),
                ("COLUMNS", a.head_dim.div_ceil(4).next_power_of_two().into()),
            ],
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
                self.kv.map(|kv| kv.buffer),
                Some(self.ring),
                Some(self.control),
                self.selected.map(|s| s.selection),
                Some(out.buffer),
            ],
            grid: match self.selected {
                None => Grid::Tokens { x: a.heads, per_group: 1, z: count },
                Some(s) if self.kv.is_some() => Grid::Indirect { args: s.args, row: s.row },
                Some(_) => Grid::Fixed([1, a.heads, count]),
            },
        }
    }
}
