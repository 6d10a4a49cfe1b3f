//! Shapes that the kernels of an attention layer share.

use crate::Vector;

/// Dimensions of windowed attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Channels of a head, at most 256.
    pub head_dim: u32,
    /// Positions a token sees, itself included.
    pub window: u32,
    /// Factor of the scores.
    pub scale: f32,
}

impl Attention {
    /// A window that no text fills: every earlier position is seen, and a position is its own slot.
    pub const EVERYTHING: u32 = 1 << 31;

    /// Columns of a row of keys and values.
    #[must_use]
    pub const fn kv_cols(&self) -> u32 {
        2 * self.kv_heads * self.head_dim
    }

    /// Columns of a row of queries.
    #[must_use]
    pub const fn q_cols(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Overrides of the shaders in which a query meets keys and values.
    pub(crate) fn overrides(&self, table: Option<Vector>) -> [(&'static str, f64); 4] {
        [
            ("ROTARY", u8::from(table.is_some()).into()),
            ("HEAD_DIM", self.head_dim.into()),
            ("FOURS", u8::from(self.head_dim.is_multiple_of(4)).into()),
            ("COLUMNS", self.head_dim.div_ceil(4).next_power_of_two().into()),
        ]
    }

    /// The same as the CPU twin takes it.
    #[must_use]
    pub const fn reference(&self) -> taipan_reference::Attention {
        taipan_reference::Attention {
            heads: self.heads as usize,
            kv_heads: self.kv_heads as usize,
            head_dim: self.head_dim as usize,
            window: self.window as usize,
            scale: self.scale,
        }
    }
}
