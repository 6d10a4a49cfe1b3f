//! One token through the inside of a mixer.

use taipan_shaders::{MIXER_UPDATE, Shared};

use crate::tuning::Tuning;
use crate::{BufferId, Decl, Grid, Kernel, Launch, Mixer, Piece, Rows, read, row_stride, weight, write};

/// Convolution, state update and gate of one token, fused: `causal_conv1d`, `conv_append`, `selective_state_update`, `· silu(z_scale·z)`.
///
/// Shapes: projected `[1, projected]`, conv_state `[taps, channels]`, ssm `[H·P, N]`, y `[1, H·P]`.
#[derive(Clone, Copy, Debug)]
pub struct MixerUpdate {
    /// Shapes and weights.
    pub mixer: Mixer,
    /// Multiply the output by silu(z_scale·z).
    pub gate: bool,
    /// The in_proj output: z, x, B, C, dt.
    pub projected: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Ring of raw rows.
    pub conv_state: BufferId,
    /// The state.
    pub ssm: BufferId,
    /// Output.
    pub y: Rows,
}

/// Rows of a head that a slot of lanes updates.
const ROWS: u32 = 4;

static DECL: Decl = Decl {
    name: "mixer_update",
    body: MIXER_UPDATE,
    shared: &[Shared::Rows, Shared::Activation, Shared::Control],
    matrix: false,
    bindings: &[
        weight("conv"),
        weight("per_head"),
        read("projected"),
        read("control"),
        write("conv_state"),
        write("ssm"),
        write("y"),
    ],
    workgroup: [256, 1, 1],
};

impl Kernel for MixerUpdate {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, piece: Piece) -> Launch {
        self.launch_tuned(piece, &Tuning::default())
    }

    fn launch_tuned(&self, _: Piece, tuning: &Tuning) -> Launch {
        let m = &self.mixer;
        let lanes = tuning.mixer_lanes;
        // A lane that has rows to itself waits for no others, and there need not be more than a head has rows for.
        let slots = if lanes == 1 { m.head_dim.div_ceil(ROWS).min(64) } else { 256 / lanes };
        let mut params = vec![
            ("heads", m.heads.into()),
            ("head_dim", m.head_dim.into()),
            ("groups", m.groups.into()),
            ("d_state", m.d_state.into()),
            ("cols", self.projected.cols.into()),
            ("z_scale", m.z_scale.into()),
        ];
        params.extend(m.dt_words());
        Launch {
            overrides: vec![
                ("GATE", u8::from(self.gate).into()),
                ("TAPS", m.taps.into()),
                ("FOURS", (row_stride(m.d_state as usize) as u32 / 4).into()),
                ("LANES", lanes.into()),
                ("SLOTS", slots.into()),
            ],
            params,
            vectors: vec![Some(m.conv), Some(m.per_head)],
            buffers: vec![
                Some(self.projected.buffer),
                Some(self.control),
                Some(self.conv_state),
                Some(self.ssm),
                Some(self.y.buffer),
            ],
            grid: Grid::Fixed([m.heads, m.head_dim.div_ceil(slots * ROWS), 1]),
        }
    }
}
