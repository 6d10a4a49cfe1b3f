//! Step sizes and decay sums of the chunked form.
//!
//! Per token and head: `dt = clamp(softplus(raw + dt_bias))`, `dA = dt·A`, `prefix` = Σ dA from the chunk's start to
//! the token inclusive, `suffix` = Σ dA over the tokens after it in the chunk. da is `[n, 4·H]`, a row
//! `dt | dA | prefix | suffix`. The suffix is summed, not `total − prefix`: differences of long sums lose digits.
//! Source: spec 1.1 step 3 and section 6; arXiv 2405.21060, section 6 and listing 1 (`segsum`).

use crate::ssm::step_size;
use crate::{Heads, Ssm};

/// Fills `da` for `n` tokens in chunks of `q`; raw dt of token t is `src[t·stride + offset..][..H]`.
pub fn chunk_cumsum(s: &Ssm, p: &Heads, q: usize, src: &[f32], stride: usize, offset: usize, n: usize, da: &mut [f32]) {
    let heads = s.heads;
    let mut sums = vec![0.0f64; heads];
    for chunk in da[..n * 4 * heads].chunks_mut(q * 4 * heads).enumerate() {
        let (index, rows) = chunk;
        sums.fill(0.0);
        for (i, row) in rows.chunks_exact_mut(4 * heads).enumerate() {
            let raw = &src[(index * q + i) * stride + offset..][..heads];
            for h in 0..heads {
                let (dt, step) = step_size(s, p, h, raw[h]);
                sums[h] += step;
                row[h] = dt as f32;
                row[heads + h] = step as f32;
                row[2 * heads + h] = sums[h] as f32;
            }
        }
        sums.fill(0.0);
        for row in rows.chunks_exact_mut(4 * heads).rev() {
            for h in 0..heads {
                row[3 * heads + h] = sums[h] as f32;
                sums[h] += f64::from(row[heads + h]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    const OPEN: Ssm = Ssm { heads: 1, head_dim: 1, groups: 1, d_state: 1, dt_limit: (0.0, f32::INFINITY) };

    #[test]
    fn hand_computed_sums_restart_with_each_chunk() {
        // Above 20 softplus is the identity, so dt = raw; A = −2. Five tokens in chunks of 2.
        let p = Heads { dt_bias: &[0.0], a_log: &[2f32.ln()], d: &[0.0] };
        let mut da = [f32::NAN; 20];
        chunk_cumsum(&OPEN, &p, 2, &[21., 22., 23., 24., 25.], 1, 0, 5, &mut da);
        let expected = [
            [21., -42., -42., -44.],
            [22., -44., -86., 0.],
            [23., -46., -46., -48.],
            [24., -48., -94., 0.],
            [25., -50., -50., 0.],
        ];
        assert_close(&da, &expected.concat(), 1e-6);
    }

    #[test]
    fn heads_lie_side_by_side_and_the_source_is_strided() {
        let s = Ssm { heads: 2, groups: 1, dt_limit: (0.0, 30.0), ..OPEN };
        let p = Heads { dt_bias: &[1.0, 0.0], a_log: &[0.0, 0.0], d: &[0.0; 2] };
        // Rows of 4, dt in columns 1 and 2; the second head's 40 is clamped to 30.
        let src = [0., 21., 40., 0., 0., 23., 25., 0.];
        let mut da = [f32::NAN; 16];
        chunk_cumsum(&s, &p, 8, &src, 4, 1, 2, &mut da);
        let first = [22., 30., -22., -30., -22., -30., -24., -25.];
        let second = [24., 25., -24., -25., -46., -55., 0., 0.];
        assert_close(&da, &[first, second].concat(), 1e-6);
    }

    #[test]
    fn a_suffix_after_a_large_step_keeps_its_digits() {
        // total − prefix would be 1e8 + 21 − 1e8 in f32: not 21.
        let p = Heads { dt_bias: &[0.0], a_log: &[0.0], d: &[0.0] };
        let mut da = [f32::NAN; 8];
        chunk_cumsum(&OPEN, &p, 2, &[1e8, 21.25], 1, 0, 2, &mut da);
        assert_eq!(da[3], -21.25);
    }
}
