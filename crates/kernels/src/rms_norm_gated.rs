//! The gated norm of Mamba-2.

use taipan_reference::GateMode;
use taipan_shaders::{RMS_NORM_GATED, Shared};

use crate::{Decl, Grid, Kernel, Launch, Piece, Rows, Vector, read, weight, write};

/// `norm(y · silu(z))`, `norm(y) · silu(z)` or `y · silu(z)`, over groups of channels.
///
/// Shapes: y and out `[tokens, cols]`; z is `z_scale` times columns `z_at..z_at + cols` of `[tokens, z.cols]`; norm `[cols]`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormGated {
    /// Weight; unused by [`GateMode::GateOnly`].
    pub norm: Option<Vector>,
    /// Added to the mean square.
    pub eps: f32,
    /// Groups that are normalised each on its own.
    pub groups: u32,
    /// Order of norm and gate.
    pub mode: GateMode,
    /// Input.
    pub y: Rows,
    /// The buffer that holds the gate.
    pub z: Rows,
    /// Its first column there.
    pub z_at: u32,
    /// Factor of the gate.
    pub z_scale: f32,
    /// Output.
    pub out: Rows,
}

static DECL: Decl = Decl {
    name: "rms_norm_gated",
    body: RMS_NORM_GATED,
    shared: &[Shared::Rows, Shared::Activation],
    matrix: false,
    bindings: &[weight("norm"), read("y"), read("z"), write("out")],
    workgroup: [256, 1, 1],
};

impl Kernel for RmsNormGated {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        let mode = match self.mode {
            GateMode::NormAfterGate => 0.0,
            GateMode::NormBeforeGate => 1.0,
            GateMode::GateOnly => 2.0,
        };
        Launch {
            overrides: vec![("MODE", mode)],
            params: vec![
                ("cols", self.y.cols.into()),
                ("groups", self.groups.into()),
                ("z_cols", self.z.cols.into()),
                ("z_at", self.z_at.into()),
                ("eps", self.eps.into()),
                ("z_scale", self.z_scale.into()),
            ],
            vectors: vec![self.norm],
            buffers: vec![Some(self.y.buffer), Some(self.z.buffer), Some(self.out.buffer)],
            grid: Grid::Tokens { x: self.groups, per_group: 1, z: 1 },
        }
    }
}
