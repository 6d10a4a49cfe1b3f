//! Attention of one token in its window.

use taipan_shaders::{Shared, TOKEN_ATTENTION};

use crate::tuning::NEVER;
use crate::{
    Attention, BufferId, Call, Decl, Grid, Kernel, Launch, MergeAttention, Piece, Rows, Tuning, Vector, read, weight,
    write,
};

/// As [`crate::WindowAttention`], of a token on its own. A device that is better off with many workgroups divides its
/// positions among them and merges the parts, see [`crate::MergeAttention`].
///
/// Shapes: q and out `[1, heads·head_dim]`, kv `[1, 2·kv_heads·head_dim]`, ring `[window, 2·kv_heads·head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct TokenAttention {
    /// Shapes.
    pub attention: Attention,
    /// Rotary frequencies, a word per channel that rotates; rotates the queries.
    pub table: Option<Vector>,
    /// The query.
    pub q: Rows,
    /// The token's key and value; `None` where its row is in the ring already.
    pub kv: Option<Rows>,
    /// The ring of keys and values.
    pub ring: BufferId,
    /// The session's counters.
    pub control: BufferId,
    /// Nothing is done where it has no token; none is always one.
    pub selection: Option<BufferId>,
    /// Output.
    pub out: Rows,
    /// Room for what parts of its positions come to.
    pub parts: Rows,
}

impl TokenAttention {
    /// Parts that the positions are divided into on a device.
    fn divided(&self, tuning: &Tuning) -> u32 {
        self.attention.window.div_ceil(tuning.attention_part).min(MergeAttention::MOST)
    }
}

static DECL: Decl = Decl {
    name: "token_attention",
    body: TOKEN_ATTENTION,
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

impl Kernel for TokenAttention {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, piece: Piece) -> Launch {
        self.launch_tuned(piece, &Tuning { attention_part: NEVER, ..Tuning::default() })
    }

    fn rest(&self, tuning: &Tuning) -> Option<Call> {
        let (count, Self { attention, parts, selection, out, .. }) = (self.divided(tuning), *self);
        (count > 1).then(|| MergeAttention { attention, count, parts, selection, out }.into())
    }

    fn launch_tuned(&self, _: Piece, tuning: &Tuning) -> Launch {
        let a = &self.attention;
        let count = self.divided(tuning);
        let out = if count > 1 { self.parts } else { self.out };
        let mut overrides = vec![
            ("ALL", u8::from(self.selection.is_none()).into()),
            ("SEGMENT", u8::from(self.kv.is_some()).into()),
            ("PARTS", count.into()),
        ];
        overrides.extend(a.overrides(self.table));
        Launch {
            overrides,
            params: vec![
                ("heads", a.heads.into()),
                ("kv_heads", a.kv_heads.into()),
                ("head_dim", a.head_dim.into()),
                ("window", a.window.into()),
                ("rotary", self.table.map_or(0, |table| table.len).into()),
                ("scale", a.scale.into()),
            ],
            vectors: vec![self.table],
            buffers: vec![
                Some(self.q.buffer),
                self.kv.map(|kv| kv.buffer),
                Some(self.ring),
                Some(self.control),
                self.selection,
                Some(out.buffer),
            ],
            grid: Grid::Fixed([a.heads, count, 1]),
        }
    }
}
