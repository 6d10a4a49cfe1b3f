//! The parts of one token's attention put together.
//!
//! A part s has, for each head, `acc_s = Σ p_j v_j` over its positions, `highest_s` and `total_s = Σ p_j`, where
//! `p_j = exp(score_j − highest_s)`. Then `out = Σ_s w_s·acc_s / Σ_s w_s·total_s` with `w_s = exp(highest_s − max highest)` is
//! the softmax over all positions. Rows of parts are `[acc: heads·head_dim | highest: heads | total: heads]`.

/// Merges `count` parts into out `[heads·head_dim]`.
pub fn merge_attention(heads: usize, head_dim: usize, count: usize, parts: &[f32], out: &mut [f32]) {
    let (inner, cols) = (heads * head_dim, heads * (head_dim + 2));
    assert!(count > 0, "merge_attention: no part");
    for (h, out) in out[..inner].chunks_exact_mut(head_dim).enumerate() {
        let of = |s: usize, column: usize| f64::from(parts[s * cols + column]);
        let highest = (0..count).map(|s| of(s, inner + h)).fold(f64::NEG_INFINITY, f64::max);
        let weight = |s: usize| (of(s, inner + h) - highest).exp();
        let total: f64 = (0..count).map(|s| weight(s) * of(s, inner + heads + h)).sum();
        for (d, out) in out.iter_mut().enumerate() {
            let sum: f64 = (0..count).map(|s| weight(s) * of(s, h * head_dim + d)).sum();
            *out = (sum / total) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;
    use crate::{Attention, window_attention};

    #[test]
    fn two_halves_are_the_whole() {
        // One head of one channel, keys 0, 1, 2, 3 times a query of 1, values 5, 6, 7, 8.
        let kv = [0., 5., 1., 6., 2., 7., 3., 8.];
        let a = Attention { heads: 1, kv_heads: 1, head_dim: 1, window: 4, scale: 1.0 };
        let mut whole = [f32::NAN];
        window_attention(&a, &[1.0], &kv, &[], &[], &[3], 0, true, &mut whole);
        let part = |j: usize| {
            let (p, q) = ((-1f32).exp(), 1.0);
            [p * kv[2 * j + 1] + q * kv[2 * j + 3], kv[2 * j + 2], p + q]
        };
        let mut merged = [f32::NAN];
        merge_attention(1, 1, 2, &[part(0), part(2)].concat(), &mut merged);
        assert_close(&merged, &whole, 1e-6);
    }

    #[test]
    fn a_part_without_positions_counts_nothing() {
        let mut out = [f32::NAN; 2];
        merge_attention(2, 1, 2, &[6., 9., 4., 5., 2., 3., 0., 0., -1e30, -1e30, 0., 0.], &mut out);
        assert_eq!(out, [3.0, 3.0]);
    }
}
