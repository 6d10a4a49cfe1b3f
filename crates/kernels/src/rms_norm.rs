//! RMSNorm of rows.

use taipan_shaders::{RMS_NORM, Shared};

use crate::{Decl, Grid, Kernel, Launch, Piece, Rows, Vector, read, weight, write};

/// `out[t] = x[t] / sqrt(mean(x[t]²) + eps) · norm`. Shapes: x and out `[tokens, cols]`, norm `[cols]` (a longer vector may
/// start with it).
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// Weight.
    pub norm: Vector,
    /// Added to the mean square.
    pub eps: f32,
    /// Input.
    pub x: Rows,
    /// Output.
    pub out: Rows,
}

static DECL: Decl = Decl {
    name: "rms_norm",
    body: RMS_NORM,
    shared: &[Shared::Lanes, Shared::Rows],
    matrix: false,
    bindings: &[weight("norm"), read("x"), write("out")],
    workgroup: [64, 1, 1],
};

impl Kernel for RmsNorm {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: vec![("cols", self.x.cols.into()), ("eps", self.eps.into())],
            vectors: vec![Some(self.norm)],
            buffers: vec![Some(self.x.buffer), Some(self.out.buffer)],
            grid: Grid::Tokens { x: 1, per_group: 1, z: 1 },
        }
    }
}
