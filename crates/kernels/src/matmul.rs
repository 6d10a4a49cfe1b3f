//! Matrix times many tokens.

use taipan_shaders::{MATMUL, MATMUL_COOPERATIVE, MATMUL_WIDE, Shared, WeightFormat};

use crate::launch::MAY_BE_COOPERATIVE;
use crate::matvec::Epilogue;
use crate::tuning::Tuning;
use crate::{BufferId, Cooperative, Decl, Grid, Kernel, Launch, Matrix, Piece, Rows, Vector, read, weight, write};

/// Which rows of `x` and `y` a product runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Tokens `first..first + most` of the segment (those that exist); row `t` of x gives row `t − first` of y.
    Tokens {
        /// First token.
        first: u32,
        /// Most tokens.
        most: u32,
    },
    /// The selected tokens of x, to a compact y.
    Gather,
    /// A compact x, to the selected tokens of y.
    Scatter,
}

/// `y[m] = epilogue(W · x[m] + bias)`. Shapes: W `[rows, cols]`, x `[tokens, cols]`, y `[tokens, y.cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Matmul {
    /// The matrix.
    pub weight: Matrix,
    /// Added to the product.
    pub bias: Option<Vector>,
    /// Input.
    pub x: Rows,
    /// Output.
    pub y: Rows,
    /// What happens to the product.
    pub epilogue: Epilogue,
    /// Rows.
    pub over: Over,
    /// The session's counters.
    pub control: BufferId,
    /// A layer's selection and the row of its indirect arguments: for gather and scatter.
    pub selected: Option<Selected>,
}

/// Where a layer's selection is kept.
#[derive(Clone, Copy, Debug)]
pub struct Selected {
    /// Counts, alphas, masks, indices.
    pub selection: BufferId,
    /// Tokens it has room for.
    pub capacity: u32,
    /// Indirect arguments.
    pub args: BufferId,
    /// Row of this dispatch there.
    pub row: u32,
}

static DECL: Decl = Decl {
    name: "matmul",
    body: MATMUL,
    shared: &[Shared::Rows, Shared::Activation, Shared::Selection, Shared::Control],
    matrix: true,
    bindings: &[weight("bias"), read("x"), write("y"), read("control"), read("selection")],
    workgroup: [16, 8, 1],
};

static COOPERATIVE: Decl =
    Decl { name: "matmul (cooperative)", body: MATMUL_COOPERATIVE, workgroup: [128, 1, 1], ..DECL };

static WIDE: Decl = Decl { name: "matmul (cooperative, wide)", body: MATMUL_WIDE, ..COOPERATIVE };

impl Matmul {
    /// Tiles of 128 rows that cover the matrix.
    #[must_use]
    pub const fn row_tiles(rows: u32) -> u32 {
        rows.div_ceil(128)
    }
}

impl Kernel for Matmul {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn cooperative(&self, format: Option<WeightFormat>, tuning: &Tuning) -> Option<Cooperative> {
        if !MAY_BE_COOPERATIVE || !self.weight.cols.is_multiple_of(64) {
            return None; // no column may be left over
        }
        // How many tokens are selected only the GPU knows: few.
        let known = matches!(self.over, Over::Tokens { .. });
        match format? {
            WeightFormat::F32 => None, // has more bits than two f16
            WeightFormat::F16 | WeightFormat::Bf16 => {
                Some(Cooperative { decl: &COOPERATIVE, many: known.then_some((tuning.matmul_wide_from, &WIDE)) })
            }
            // Two f16 for a weight are too many bytes for the other one.
            WeightFormat::Q8 | WeightFormat::Q4 => Some(Cooperative { decl: &WIDE, many: None }),
        }
    }

    fn matrix(&self) -> Option<Matrix> {
        Some(self.weight)
    }

    fn launch(&self, piece: Piece) -> Launch {
        let first = if let Over::Tokens { first, .. } = self.over { first } else { 0 };
        let most = if let Over::Tokens { most, .. } = self.over { most } else { u32::MAX };
        Launch {
            overrides: vec![
                ("BIAS", u8::from(self.bias.is_some()).into()),
                ("GATHER", u8::from(self.over == Over::Gather).into()),
                ("SCATTER", u8::from(self.over == Over::Scatter).into()),
                ("EPILOGUE", self.epilogue.switch()),
            ],
            params: vec![
                ("cols", self.weight.cols.into()),
                ("rows", piece.rows.into()),
                ("first_row", piece.first_row.into()),
                ("y_cols", self.y.cols.into()),
                ("x_first", first.into()),
                ("most", most.into()),
                ("capacity", self.selected.map_or(0, |s| s.capacity).into()),
                ("scale", self.epilogue.scale().into()),
            ],
            vectors: vec![self.bias],
            buffers: vec![
                Some(self.x.buffer),
                Some(self.y.buffer),
                Some(self.control),
                self.selected.map(|s| s.selection),
            ],
            grid: match (self.over, self.selected) {
                (Over::Tokens { first, most }, _) => Grid::TokenTiles { first, most, y: Self::row_tiles(piece.rows) },
                (_, Some(s)) => Grid::Indirect { args: s.args, row: s.row },
                (_, None) => panic!("matmul: gather and scatter need a selection"),
            },
        }
    }
}
