//! Products C·B inside each chunk, the attention-like matrix of the dual form.
//!
//! `cb[((chunk·G + g)·q + i)·q + j] = C_i·B_j` for j ≤ i, 0 above the diagonal and for rows past the text; cb has
//! `ceil(n/q)·G·q·q` entries, xbc is `[n, H·P + 2·G·N]`. Source: arXiv 2405.21060, section 6 (the `C Bᵀ` of the
//! diagonal blocks).

use crate::Ssm;
use crate::sum::dot;

/// Fills `cb` for `n` tokens in chunks of `q`.
pub fn bmm_chunk(s: &Ssm, q: usize, xbc: &[f32], n: usize, cb: &mut [f32]) {
    let blocks = n.div_ceil(q) * s.groups;
    for (block, cb) in cb[..blocks * q * q].chunks_exact_mut(q * q).enumerate() {
        let (start, g) = (block / s.groups * q, block % s.groups);
        cb.fill(0.0);
        for (i, cb) in cb.chunks_exact_mut(q).enumerate().take(n - start) {
            let c = s.c(xbc, start + i, g);
            for (j, cb) in cb[..=i].iter_mut().enumerate() {
                *cb = dot(c, s.b(xbc, start + j, g)) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    #[test]
    fn every_entry_against_index_arithmetic() {
        let mut random = Random::new(13);
        let (q, groups, width) = (3, 2, 5);
        let s = Ssm { heads: 2, head_dim: 1, groups, d_state: width, dt_limit: (0.0, 1.0) };
        let row = 2 + 2 * groups * width;
        for n in [1, 3, 4, 8] {
            let xbc = random.values(n * row);
            let chunks = n.div_ceil(q);
            let mut cb = vec![f32::NAN; chunks * groups * q * q];
            bmm_chunk(&s, q, &xbc, n, &mut cb);
            for (at, &got) in cb.iter().enumerate() {
                let (j, i, g) = (at % q, at / q % q, at / (q * q) % groups);
                let start = at / (q * q * groups) * q;
                let mut expected = 0.0;
                if j <= i && start + i < n {
                    for k in 0..width {
                        let c = xbc[(start + i) * row + 2 + (groups + g) * width + k];
                        expected += c * xbc[(start + j) * row + 2 + g * width + k];
                    }
                }
                assert_close(&[got], &[expected], 1e-6);
            }
        }
    }
}
