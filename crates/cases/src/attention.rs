//! Shapes of attention that several kernels' cases share.

use taipan_kernels::Attention;

pub(crate) fn attention(heads: u32, kv_heads: u32, head_dim: u32, window: u32) -> Attention {
    Attention { heads, kv_heads, head_dim, window, scale: (head_dim as f32).sqrt().recip() }
}

/// A bucket's words: unbounded, with credit, without.
pub(crate) fn buckets() -> [(&'static str, Vec<u32>); 3] {
    [
        ("unbounded", vec![0, 7, 1, 0, 0, 0, 0, 0]),
        ("with credit", vec![150_000, 3, 0, 16_384, 196_608, 0, 0, 0]),
        ("without credit", vec![10, 3, 5, 9_830, 131_072, 0, 0, 0]),
    ]
}
