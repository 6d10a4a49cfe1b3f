//! Shapes and weights that the kernels of a Mamba-2 mixer share.

use taipan_reference::{Conv, Ssm};

use crate::{Rows, Vector, Word};

/// Dimensions of a mixer, the columns of its projection, and its per-head weights.
#[derive(Clone, Copy, Debug)]
pub struct Mixer {
    /// H.
    pub heads: u32,
    /// P.
    pub head_dim: u32,
    /// G.
    pub groups: u32,
    /// N.
    pub d_state: u32,
    /// Taps of the convolution.
    pub taps: u32,
    /// Bounds of Δ.
    pub dt_limit: (f32, f32),
    /// Factor of z.
    pub z_scale: f32,
    /// Factor of dt as projected.
    pub dt_scale: f32,
    /// dt_bias `[H]`, A_log `[H]`, D `[H]` end to end.
    pub per_head: Vector,
    /// Convolution weight `[channels, taps]`, then bias `[channels]`.
    pub conv: Vector,
}

/// A causal depthwise convolution over some columns of rows.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// Channels.
    pub channels: u32,
    /// Taps.
    pub taps: u32,
    /// Column of the first channel in a row of the input.
    pub at: u32,
    /// Weight `[channels, taps]`, then bias `[channels]`.
    pub weights: Vector,
    /// Whether SiLU follows.
    pub silu: bool,
}

impl Convolution {
    /// The same as the CPU twins take it, over rows of an input.
    #[must_use]
    pub const fn reference(&self, raw: Rows) -> Conv {
        Conv {
            channels: self.channels as usize,
            taps: self.taps as usize,
            stride: raw.cols as usize,
            offset: self.at as usize,
            silu: self.silu,
        }
    }

    pub(crate) fn words(&self, raw: Rows) -> Vec<(&'static str, Word)> {
        vec![
            ("channels", self.channels.into()),
            ("taps", self.taps.into()),
            ("raw_cols", raw.cols.into()),
            ("raw_at", self.at.into()),
        ]
    }
}

impl Mixer {
    /// The convolution of x, B and C.
    #[must_use]
    pub const fn convolution(&self) -> Convolution {
        let (channels, taps, at) = (self.channels(), self.taps, self.xbc_at());
        Convolution { channels, taps, at, weights: self.conv, silu: true }
    }

    /// H·P.
    #[must_use]
    pub const fn inner(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Channels of the convolution: x, B and C.
    #[must_use]
    pub const fn channels(&self) -> u32 {
        self.inner() + 2 * self.groups * self.d_state
    }

    /// Columns of the in_proj output: z, x, B, C, dt.
    #[must_use]
    pub const fn projected(&self) -> u32 {
        self.inner() + self.channels() + self.heads
    }

    /// First column of x in the in_proj output.
    #[must_use]
    pub const fn xbc_at(&self) -> u32 {
        self.inner()
    }

    /// First column of dt in the in_proj output.
    #[must_use]
    pub const fn dt_at(&self) -> u32 {
        self.inner() + self.channels()
    }

    /// The same as the CPU twins take it.
    #[must_use]
    pub const fn ssm(&self) -> Ssm {
        Ssm {
            heads: self.heads as usize,
            head_dim: self.head_dim as usize,
            groups: self.groups as usize,
            d_state: self.d_state as usize,
            dt_limit: self.dt_limit,
        }
    }

    /// Factor and bounds of Δ as a shader takes them: its arithmetic may not know infinity.
    pub(crate) fn dt_words(&self) -> [(&'static str, Word); 3] {
        [
            ("dt_scale", self.dt_scale.into()),
            ("dt_min", self.dt_limit.0.into()),
            ("dt_max", self.dt_limit.1.min(f32::MAX).into()),
        ]
    }
}
