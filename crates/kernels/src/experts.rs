//! A projection of the experts that a token goes to.

use taipan_reference::Projection;
use taipan_shaders::{EXPERTS, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Matrix, Piece, Rows, read, write};

/// Up: `y[t, i] = activation(W[e] · x[t])`; down: `y[t] += scale · Σᵢ weightᵢ · (W[e] · x[t, i])`, e the i-th expert of token t.
///
/// Shapes: W `[experts·rows, cols]`, up: x `[tokens, cols]`, y `[tokens·top, y.cols]`; down: the other way round; routes
/// `[tokens, top]` pairs. `rows` is even, or there is one piece.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// The matrices of all experts, one upon the other.
    pub weight: Matrix,
    /// Rows of one expert.
    pub rows: u32,
    /// Experts a token goes to.
    pub top: u32,
    /// What is done with the products.
    pub projection: Projection,
    /// Input.
    pub x: Rows,
    /// Expert and weight.
    pub routes: BufferId,
    /// Output.
    pub y: Rows,
}

static DECL: Decl = Decl {
    name: "experts",
    body: EXPERTS,
    shared: &[Shared::Rows, Shared::Activation],
    matrix: true,
    bindings: &[read("x"), read("routes"), write("y")],
    workgroup: [64, 1, 1],
};

impl Kernel for Experts {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn matrix(&self) -> Option<Matrix> {
        Some(self.weight)
    }

    fn launch(&self, piece: Piece) -> Launch {
        let combine = matches!(self.projection, Projection::Add(_) | Projection::Store);
        let scale = if let Projection::Add(scale) = self.projection { scale } else { 1.0 };
        Launch {
            overrides: vec![
                ("TOP", self.top.into()),
                ("COMBINE", u8::from(combine).into()),
                ("STORE", u8::from(self.projection == Projection::Store).into()),
                ("SWIGLU", u8::from(self.projection == Projection::Swiglu).into()),
            ],
            params: vec![
                ("cols", self.weight.cols.into()),
                ("rows", self.rows.into()),
                ("first_row", piece.first_row.into()),
                ("piece_rows", piece.rows.into()),
                ("y_cols", self.y.cols.into()),
                ("scale", scale.into()),
            ],
            vectors: vec![],
            buffers: vec![Some(self.x.buffer), Some(self.routes), Some(self.y.buffer)],
            grid: Grid::Tokens { x: self.rows.div_ceil(8), per_group: 1, z: if combine { 1 } else { self.top } },
        }
    }
}
