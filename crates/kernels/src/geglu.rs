//! The activation of an MLP that is gated by GELU.

use taipan_shaders::{GEGLU, Shared};

use crate::{Decl, Grid, Kernel, Launch, Piece, Rows, read, write};

/// `out[t, j] = gelu(x[t, 2j]) · x[t, 2j + 1]`, gelu with the error function. Shapes: x `[tokens, 2·out.cols]`, out
/// `[tokens, out.cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Geglu {
    /// Gate and up projection, interleaved.
    pub x: Rows,
    /// Output.
    pub out: Rows,
}

static DECL: Decl = Decl {
    name: "geglu",
    body: GEGLU,
    shared: &[Shared::Rows],
    matrix: false,
    bindings: &[read("x"), write("out")],
    workgroup: [64, 1, 1],
};

impl Kernel for Geglu {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: vec![("cols", self.out.cols.into())],
            vectors: vec![],
            buffers: vec![Some(self.x.buffer), Some(self.out.buffer)],
            grid: Grid::Tokens { x: self.out.cols.div_ceil(64), per_group: 1, z: 1 },
        }
    }
}
