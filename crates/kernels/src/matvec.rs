//! Matrix times one token, with the norm before it and the residual, mix or activation after it.

use taipan_shaders::{MATVEC, Shared};

use crate::launch::lanes_of_row;
use crate::{BufferId, Decl, Grid, Kernel, Launch, Matrix, Piece, Rows, Tuning, Vector, read, spread, weight, write};

/// What happens to the result of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Epilogue {
    /// `y = v`.
    Store,
    /// `y += scale·v`: the residual.
    Add(f32),
    /// `y = (1 − α)·y + α·v`, α of the token's gate (arXiv 2410.18572 eq. 5).
    Mix,
    /// `y[j] = silu(scale·v[2j]) · v[2j + 1]`: rows of gate and up projection interleaved.
    Swiglu(f32),
    /// `y = max(v, 0)²`.
    Relu2,
}

impl Epilogue {
    pub(crate) fn switch(self) -> f64 {
        match self {
            Self::Store => 0.0,
            Self::Add(_) => 1.0,
            Self::Mix => 2.0,
            Self::Swiglu(_) => 3.0,
            Self::Relu2 => 4.0,
        }
    }

    pub(crate) fn scale(self) -> f32 {
        match self {
            Self::Add(scale) | Self::Swiglu(scale) => scale,
            Self::Store | Self::Mix | Self::Relu2 => 1.0,
        }
    }
}

/// An RMSNorm in front of a matrix product.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Weight `[cols]` (a longer vector may start with it).
    pub weight: Vector,
    /// Added to the mean square.
    pub eps: f32,
    /// Groups of consecutive columns that are normalised each on its own.
    pub groups: u32,
}

/// `y[0] = epilogue(W · norm(x[tokens − 1]) + bias)`. Shapes: W `[rows, cols]`, x `[tokens, cols]`, y `[1, y.cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Matvec {
    /// The matrix.
    pub weight: Matrix,
    /// Added to the product.
    pub bias: Option<Vector>,
    /// Norm of the input.
    pub norm: Option<Norm>,
    /// Input; its last row is taken.
    pub x: Rows,
    /// Output; its first row.
    pub y: Rows,
    /// What happens to the product.
    pub epilogue: Epilogue,
    /// The session's counters.
    pub control: BufferId,
    /// A layer's selection: for [`Epilogue::Mix`] and `only_selected`.
    pub selection: Option<BufferId>,
    /// Do nothing, and read no weight, where the token is not selected.
    pub only_selected: bool,
}

static DECL: Decl = Decl {
    name: "matvec",
    body: MATVEC,
    shared: &[Shared::Lanes, Shared::Rows, Shared::Activation, Shared::Selection, Shared::Control],
    matrix: true,
    bindings: &[weight("bias"), weight("norm"), read("x"), write("y"), read("control"), read("selection")],
    workgroup: [128, 1, 1],
};

/// Invocations of a workgroup.
const WIDTH: u32 = 128;
/// The same where each has rows to itself.
const ALONE: u32 = 16;

impl Kernel for Matvec {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn matrix(&self) -> Option<Matrix> {
        Some(self.weight)
    }

    fn launch(&self, piece: Piece) -> Launch {
        self.launch_tuned(piece, &Tuning::default())
    }

    fn launch_tuned(&self, piece: Piece, tuning: &Tuning) -> Launch {
        let eight = piece.rows >= tuning.matvec_eight_from;
        // Where a slot has eight rows, what it spends on adding up its lanes' sums counts.
        let lanes = (lanes_of_row(self.weight.cols, WIDTH) / if eight { 2 } else { 1 }).min(tuning.matvec_lanes);
        // Lanes that do not work together need not be as many.
        let width = if lanes == 1 { ALONE } else { WIDTH };
        let rows_per_group = width / lanes * if eight { 8 } else { 2 };
        let groups = self.norm.map_or(0, |n| n.groups);
        Launch {
            overrides: vec![
                ("GROUPS", groups.into()),
                ("RAGGED", u8::from(groups > 1 && !(self.weight.cols / groups).is_multiple_of(8)).into()),
                ("BIAS", u8::from(self.bias.is_some()).into()),
                ("EPILOGUE", self.epilogue.switch()),
                ("ONLY_SELECTED", u8::from(self.only_selected).into()),
                ("LANES", lanes.into()),
                ("WIDTH", width.into()),
                ("EIGHT", u8::from(eight).into()),
            ],
            params: vec![
                ("cols", self.weight.cols.into()),
                ("rows", piece.rows.into()),
                ("first_row", piece.first_row.into()),
                ("eps", self.norm.map_or(0.0, |n| n.eps).into()),
                ("scale", self.epilogue.scale().into()),
            ],
            vectors: vec![self.bias, self.norm.map(|n| n.weight)],
            buffers: vec![Some(self.x.buffer), Some(self.y.buffer), Some(self.control), self.selection],
            grid: Grid::Fixed(spread(piece.rows.div_ceil(rows_per_group))),
        }
    }
}
