//! What each chunk adds to the state, as if it started from zero.
//!
//! `states[((chunk·H + h)·P + p)·N + k] = Σ_t exp(suffix_t)·dt_t·x_t[h, p]·B_t[g(h), k]` over the chunk's tokens. xbc
//! `[n, H·P + 2·G·N]`, da `[n, 4·H]` of `chunk_cumsum`. Source: arXiv 2405.21060, section 6 (right factors).

use crate::Ssm;
use crate::sum::add_scaled;

/// Fills `states` `[ceil(n/q), H, P, N]`.
pub fn chunk_state(s: &Ssm, q: usize, xbc: &[f32], da: &[f32], n: usize, states: &mut [f32]) {
    let (heads, width) = (s.heads, s.d_state);
    let mut acc = vec![0.0f64; width];
    let mut weights = Vec::with_capacity(q);
    let tiles = n.div_ceil(q) * heads;
    let tile_len = s.head_dim * width;
    for (tile, states) in states[..tiles * tile_len].chunks_exact_mut(tile_len).enumerate() {
        let (chunk, h) = (tile / heads, tile % heads);
        let tokens = chunk * q..((chunk + 1) * q).min(n);
        weights.clear();
        weights.extend(tokens.clone().map(|t| {
            let row = &da[t * 4 * heads..][..4 * heads];
            f64::from(row[3 * heads + h]).exp() * f64::from(row[h])
        }));
        for (p, states) in states.chunks_exact_mut(width).enumerate() {
            acc.fill(0.0);
            for (t, &weight) in tokens.clone().zip(&weights) {
                let input = weight * f64::from(s.x(xbc, t, h)[p]);
                add_scaled(&mut acc, input, s.b(xbc, t, s.group(h)));
            }
            for (o, &a) in states.iter_mut().zip(&acc) {
                *o = a as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    #[test]
    fn every_entry_against_the_triple_sum() {
        let mut random = Random::new(14);
        let (heads, dim, groups, width, q, n) = (4, 2, 2, 3, 3, 7);
        let s = Ssm { heads, head_dim: dim, groups, d_state: width, dt_limit: (0.0, 1.0) };
        let row = heads * dim + 2 * groups * width;
        // Any numbers will do for dt and suffix: the kernel must not look at the other two columns.
        let mut da = vec![f32::NAN; n * 4 * heads];
        for t in 0..n {
            for h in 0..heads {
                da[t * 16 + h] = random.between(0.0, 1.0);
                da[t * 16 + 12 + h] = random.between(-3.0, 0.0);
            }
        }
        let xbc = random.values(n * row);
        let mut states = vec![f32::NAN; 3 * heads * dim * width];
        chunk_state(&s, q, &xbc, &da, n, &mut states);
        for (at, &got) in states.iter().enumerate() {
            let (k, p) = (at % width, at / width % dim);
            let (h, chunk) = (at / (width * dim) % heads, at / (width * dim * heads));
            let mut expected = 0.0;
            for t in chunk * q..n.min(chunk * q + q) {
                let b = xbc[t * row + heads * dim + h / 2 * width + k];
                let x = xbc[t * row + h * dim + p];
                expected += da[t * 16 + 12 + h].exp() * da[t * 16 + h] * x * b;
            }
            assert_close(&[got], &[expected], 1e-6);
        }
    }
}
