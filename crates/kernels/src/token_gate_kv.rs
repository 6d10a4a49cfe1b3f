//! First step of a selective attention layer for one token.

use taipan_shaders::{Shared, TOKEN_GATE_KV};

use crate::launch::lanes_of_row;
use crate::{
    Attention, BufferId, Decl, Grid, Kernel, Launch, Matrix, Piece, Rows, Vector, read, spread, weight, write,
};

/// `rms_norm`, `token_gate`, bucket, `W_k x`, `W_v x`, `rotary` and `kv_append` of one token, fused.
///
/// Shapes: hidden `[1, cols]`, W_kv `[2·kv_heads·head_dim, cols]`, ring `[window, 2·kv_heads·head_dim]`; gate = norm `[cols]`,
/// W_g `[2, cols]`, b_g `[2]` end to end.
#[derive(Clone, Copy, Debug)]
pub struct TokenGateKv {
    /// Shapes.
    pub attention: Attention,
    /// Key projection, then value projection.
    pub weight: Matrix,
    /// Norm, gate weight and gate bias.
    pub gate: Vector,
    /// Added to the mean square.
    pub eps: f32,
    /// Rotary frequencies; rotates the key.
    pub table: Option<Vector>,
    /// The residual stream.
    pub hidden: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// The window's ring.
    pub ring: BufferId,
    /// The bucket.
    pub sal: BufferId,
    /// Output: alpha, mask, count.
    pub selection: BufferId,
    /// Tokens the selection has room for.
    pub capacity: u32,
}

static DECL: Decl = Decl {
    name: "token_gate_kv",
    body: TOKEN_GATE_KV,
    shared: &[
        Shared::Lanes,
        Shared::Rows,
        Shared::Activation,
        Shared::Rotary,
        Shared::Selection,
        Shared::Bucket,
        Shared::Control,
    ],
    matrix: true,
    bindings: &[
        weight("gate"),
        weight("table"),
        read("hidden"),
        read("control"),
        write("window"),
        write("sal"),
        write("selection"),
    ],
    workgroup: [64, 1, 1],
};

/// Invocations of a workgroup.
const WIDTH: u32 = 64;

impl Kernel for TokenGateKv {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn matrix(&self) -> Option<Matrix> {
        Some(self.weight)
    }

    fn launch(&self, piece: Piece) -> Launch {
        // A slot owns two rows; the first workgroup computes the gate.
        let lanes = lanes_of_row(self.weight.cols, WIDTH);
        let groups = 1 + piece.rows.div_ceil(2 * (WIDTH / lanes));
        Launch {
            overrides: vec![("ROTARY", u8::from(self.table.is_some()).into()), ("LANES", lanes.into())],
            params: vec![
                ("cols", self.weight.cols.into()),
                ("rows", self.weight.rows.into()),
                ("head_dim", self.attention.head_dim.into()),
                ("window", self.attention.window.into()),
                ("capacity", self.capacity.into()),
                ("eps", self.eps.into()),
            ],
            vectors: vec![Some(self.gate), self.table],
            buffers: vec![
                Some(self.hidden.buffer),
                Some(self.control),
                Some(self.ring),
                Some(self.sal),
                Some(self.selection),
            ],
            grid: Grid::Fixed(spread(groups)),
        }
    }
}
