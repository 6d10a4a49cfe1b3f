//! Sliding-window attention of the selected tokens.
//!
//! Token at position i attends to positions `max(0, i − w + 1)..=i`: `out = softmax(scale·q·k_j) · v_j` per head,
//! query head a reading key head `a / (heads / kv_heads)`. Rows of kv and of the ring are
//! `[k: kv_heads·head_dim | v: kv_heads·head_dim]`, k after rotary; q and out are `[count, heads·head_dim]`, one row
//! per selected token. Source: arXiv 2410.18572, eq. 4; spec 1.2 steps 4 to 6.

use crate::rotary;
use crate::sum::{add_scaled, dot};

/// Shape of the attention of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// w, positions a token sees, itself included.
    pub window: usize,
    /// Factor of the scores, usually 1/√head_dim.
    pub scale: f32,
}

impl Attention {
    /// The key head that query head `h` reads.
    fn kv_head(&self, h: usize) -> usize {
        h / (self.heads / self.kv_heads)
    }
}

/// Attends for every `r < indices.len()`: segment token `indices[r]`, at position `first + indices[r]`.
///
/// Keys and values of position j come from row `j − first` of `kv` if `segment` and `j ≥ first`, else from ring slot
/// `j mod w` of `window`. A non-empty `table` turns q by its position first.
pub fn window_attention(
    a: &Attention,
    q: &[f32],
    kv: &[f32],
    window: &[f32],
    table: &[u32],
    indices: &[u32],
    first: usize,
    segment: bool,
    out: &mut [f32],
) {
    let width = a.heads * a.head_dim;
    let cols = 2 * a.kv_heads * a.head_dim;
    assert!(a.heads.is_multiple_of(a.kv_heads), "window_attention: uneven groups of heads");
    let row_of = |j: usize| {
        if segment && j >= first { &kv[(j - first) * cols..][..cols] } else { &window[j % a.window * cols..][..cols] }
    };
    for (r, &t) in indices.iter().enumerate() {
        let position = first + t as usize;
        let mut q = q[r * width..][..width].to_vec();
        if !table.is_empty() {
            rotary(&mut q, a.heads, a.head_dim, table, position as u32);
        }
        let oldest = (position + 1).saturating_sub(a.window);
        let rows: Vec<&[f32]> = (oldest..=position).map(row_of).collect();
        attend(a, &q, &rows, &mut out[r * width..][..width]);
    }
}

/// One query row over the rows it sees. Rows are the outer loops: each is read once for all heads.
fn attend(a: &Attention, q: &[f32], rows: &[&[f32]], out: &mut [f32]) {
    let (dim, seen) = (a.head_dim, rows.len());
    let mut scores = vec![0.0f64; a.heads * seen];
    for (j, row) in rows.iter().enumerate() {
        for (h, q) in q.chunks_exact(dim).enumerate() {
            let key = &row[a.kv_head(h) * dim..][..dim];
            scores[h * seen + j] = f64::from(a.scale) * dot(q, key);
        }
    }
    scores.chunks_exact_mut(seen).for_each(softmax);
    let mut acc = vec![0.0f64; a.heads * dim];
    for (j, row) in rows.iter().enumerate() {
        for (h, acc) in acc.chunks_exact_mut(dim).enumerate() {
            let value = &row[(a.kv_heads + a.kv_head(h)) * dim..][..dim];
            add_scaled(acc, scores[h * seen + j], value);
        }
    }
    for (o, &a) in out.iter_mut().zip(&acc) {
        *o = a as f32;
    }
}

/// exp(s − max) / Σ: the maximum is taken off so that nothing overflows.
fn softmax(scores: &mut [f64]) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|s| *s = (*s - max).exp());
    let total: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= total);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;
    use crate::{kv_append, rotary_table};

    const SMALL: Attention = Attention { heads: 1, kv_heads: 1, head_dim: 1, window: 4, scale: 1.0 };

    /// One query (value `q`) at the last position over keys and values given as `[k, v]` rows of the segment.
    fn one(a: &Attention, q: f32, kv: &[f32]) -> f32 {
        let last = (kv.len() / 2 - 1) as u32;
        let mut out = [f32::NAN];
        window_attention(a, &[q], kv, &[], &[], &[last], 0, true, &mut out);
        out[0]
    }

    #[test]
    fn hand_computed_weights() {
        // Scores 0 and ln 3: weights 1/4 and 3/4.
        let l = 3f32.ln();
        assert_close(&[one(&SMALL, 1.0, &[0., 8., l, 4.])], &[5.0], 1e-6);
        // Half the scale and twice the query is the same.
        let halved = Attention { scale: 0.5, ..SMALL };
        assert_close(&[one(&halved, 2.0, &[0., 8., l, 4.])], &[5.0], 1e-6);
    }

    #[test]
    fn equal_scores_average_the_window_only() {
        let kv = [0., 100., 0., 1., 0., 2., 0., 3., 0., 6.];
        assert_close(&[one(&SMALL, 1.0, &kv)], &[3.0], 1e-7);
        assert_close(&[one(&Attention { window: 1, ..SMALL }, 1.0, &kv)], &[6.0], 1e-7);
        assert_close(&[one(&Attention { window: 9, ..SMALL }, 1.0, &kv)], &[22.4], 1e-7);
    }

    #[test]
    fn the_future_is_not_seen() {
        let mut out = [f32::NAN];
        let kv = [0., 1., 0., 3., f32::NAN, f32::NAN];
        window_attention(&SMALL, &[1.0], &kv, &[], &[], &[1], 0, true, &mut out);
        assert_close(&out, &[2.0], 1e-7);
    }

    #[test]
    fn enormous_scores_stay_finite() {
        assert_eq!(one(&SMALL, 1e30, &[-1e8, 5., 1e8, 7.]), 7.0);
    }

    #[test]
    fn query_heads_share_a_key_head() {
        let a = Attention { heads: 4, kv_heads: 2, ..SMALL };
        let mut out = [f32::NAN; 4];
        // One position: the output is its value, of head 0 for queries 0 and 1, of head 1 for 2 and 3.
        window_attention(&a, &[1.; 4], &[5., 6., 7., 8.], &[], &[], &[0], 0, true, &mut out);
        assert_eq!(out, [7., 7., 8., 8.]);
    }

    #[test]
    fn older_positions_come_from_their_ring_slots() {
        // Window 4, position 6 sees 3..=6. Slots: 3 → 3, 4 → 0, 5 → 1; slot 2 (position 2) is too
        // old.
        let ring = [0., 40., 0., 50., f32::NAN, f32::NAN, 0., 30.];
        let mut out = [f32::NAN];
        window_attention(&SMALL, &[1.], &[0., 60.], &ring, &[], &[0], 6, true, &mut out);
        assert_close(&out, &[45.0], 1e-7);
        // Decode: the current row is in the ring too.
        let mut ring = ring;
        kv_append(&[0., 60.], 2, 4, 6, 1, &mut ring);
        window_attention(&SMALL, &[1.], &[], &ring, &[], &[0], 6, false, &mut out);
        assert_close(&out, &[45.0], 1e-7);
    }

    #[test]
    fn rows_of_q_follow_the_indices_and_their_positions() {
        let table = rotary_table(1.0, 2);
        let a = Attention { head_dim: 2, ..SMALL };
        // Keys turned by their position: the score is then q·k·cos(distance) for parallel vectors.
        let mut kv = [1., 0., 1., 0., 1., 0., 2., 0., 1., 0., 4., 0.];
        for (t, row) in kv.chunks_exact_mut(4).enumerate() {
            rotary(row, 1, 2, &table, 10 + t as u32);
        }
        let mut out = [f32::NAN; 4];
        let q = [3., 0., 1., 0.];
        window_attention(&Attention { window: 2, ..a }, &q, &kv, &[0.; 8], &table, &[1, 2], 10, true, &mut out);
        let mixed = |q: f64, old: f64, new: f64| {
            let (w_old, w_new) = ((q * 1f64.cos()).exp(), q.exp());
            ((w_old * old + w_new * new) / (w_old + w_new)) as f32
        };
        assert_close(&out, &[mixed(3., 1., 2.), 0., mixed(1., 2., 4.), 0.], 1e-6);
    }
}
