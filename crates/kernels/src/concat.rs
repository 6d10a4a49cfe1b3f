//! Rows side by side.

use taipan_shaders::{CONCAT, Shared};

use crate::{Decl, Grid, Kernel, Launch, Piece, Rows, read, write};

/// `out[t] = (a[t] | b[t])`; without `b` a copy. Shapes: a `[tokens, a.cols]`, b `[tokens, b.cols]`, out `[tokens, a.cols + b.cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// What comes first.
    pub a: Rows,
    /// What comes second.
    pub b: Option<Rows>,
    /// Output.
    pub out: Rows,
}

static DECL: Decl = Decl {
    name: "concat",
    body: CONCAT,
    shared: &[Shared::Rows],
    matrix: false,
    bindings: &[read("a"), read("b"), write("out")],
    workgroup: [64, 1, 1],
};

impl Kernel for Concat {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        let b_cols = self.b.map_or(0, |b| b.cols);
        Launch {
            overrides: vec![("B", u8::from(self.b.is_some()).into())],
            params: vec![("a_cols", self.a.cols.into()), ("b_cols", b_cols.into())],
            vectors: vec![],
            buffers: vec![Some(self.a.buffer), self.b.map(|b| b.buffer), Some(self.out.buffer)],
            grid: Grid::Tokens { x: (self.a.cols + b_cols).div_ceil(64), per_group: 1, z: 1 },
        }
    }
}
