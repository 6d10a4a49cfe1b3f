//! The gate of a selective attention layer, many tokens.

use taipan_shaders::{Shared, TOKEN_GATE};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, Vector, read, weight, write};

/// `α = sigmoid(s₁ − s₀)`, a token asks for attention iff `s₁ > s₀`, `s = W_g x + b_g` (arXiv 2410.18572 eq. 1–3).
///
/// Shapes: gate = norm `[cols]`, W_g `[2, cols]`, b_g `[2]` end to end; x `[tokens, cols]`, normed.
#[derive(Clone, Copy, Debug)]
pub struct TokenGate {
    /// Norm, gate weight and gate bias.
    pub gate: Vector,
    /// Tokens the selection has room for.
    pub capacity: u32,
    /// Normed input.
    pub x: Rows,
    /// Output: alphas, and wishes in the place of the masks.
    pub selection: BufferId,
}

static DECL: Decl = Decl {
    name: "token_gate",
    body: TOKEN_GATE,
    shared: &[Shared::Rows, Shared::Selection, Shared::Activation],
    matrix: false,
    bindings: &[weight("gate"), read("x"), write("selection")],
    workgroup: [64, 1, 1],
};

impl Kernel for TokenGate {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        Launch {
            overrides: vec![],
            params: vec![("cols", self.x.cols.into()), ("capacity", self.capacity.into())],
            vectors: vec![Some(self.gate)],
            buffers: vec![Some(self.x.buffer), Some(self.selection)],
            grid: Grid::Tokens { x: 1, per_group: 1, z: 1 },
        }
    }
}
