//! Outputs of the chunked form.
//!
//! `y_t = exp(prefix_t)·S_in·C_t + Σ_{j ≤ t} exp(Σ_{j < i ≤ t} dA_i)·cb[t, j]·dt_j·x_j + D·x_t`, j over the tokens of
//! t's chunk. The inner exponent is summed over the segment for each pair, never taken as a difference of prefixes.
//! xbc `[n, H·P + 2·G·N]`, da `[n, 4·H]`, cb of `bmm_chunk`, states `[ceil(n/q), H, P, N]` after `state_passing`, y
//! `[n, H·P]`. Source: arXiv 2405.21060, section 6; spec section 6 (segment sums).

use crate::Ssm;
use crate::sum::{add_scaled, dot};

/// Writes y of `n` tokens in chunks of `q`; D·x included, the gate not.
pub fn chunk_scan(
    s: &Ssm,
    q: usize,
    d: &[f32],
    xbc: &[f32],
    da: &[f32],
    cb: &[f32],
    states: &[f32],
    n: usize,
    y: &mut [f32],
) {
    let tile = s.head_dim * s.d_state;
    let mut acc = vec![0.0f64; s.head_dim];
    for h in 0..s.heads {
        let g = s.group(h);
        for t in 0..n {
            let (chunk, i) = (t / q, t % q);
            let decay = f64::from(da[(t * 4 + 2) * s.heads + h]).exp();
            let entry = &states[(chunk * s.heads + h) * tile..][..tile];
            let (c, x) = (s.c(xbc, t, g), s.x(xbc, t, h));
            for ((a, row), &x) in acc.iter_mut().zip(entry.chunks_exact(s.d_state)).zip(x) {
                *a = decay * dot(row, c) + f64::from(d[h]) * f64::from(x);
            }
            let cb = &cb[((chunk * s.groups + g) * q + i) * q..][..=i];
            add_inside(s, h, xbc, da, cb, t - i, &mut acc);
            for (o, &a) in y[t * s.inner() + h * s.head_dim..].iter_mut().zip(&acc) {
                *o = a as f32;
            }
        }
    }
}

/// acc ← acc + Σ_j exp(segment sum)·cb[j]·dt_j·x_j over the tokens `start + j` of the chunk up to the current one.
fn add_inside(s: &Ssm, h: usize, xbc: &[f32], da: &[f32], cb: &[f32], start: usize, acc: &mut [f64]) {
    let mut segment = 0.0f64;
    // From the current token backwards: each step lengthens the segment by the dA just passed.
    for (j, &cb) in cb.iter().enumerate().rev() {
        let row = &da[(start + j) * 4 * s.heads..][..4 * s.heads];
        let weight = segment.exp() * f64::from(cb) * f64::from(row[h]);
        add_scaled(acc, weight, s.x(xbc, start + j, h));
        segment += f64::from(row[s.heads + h]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    #[test]
    fn every_output_against_the_formula() {
        let mut random = Random::new(15);
        let (heads, dim, groups, width, q, n) = (4, 3, 2, 5, 3, 8);
        let s = Ssm { heads, head_dim: dim, groups, d_state: width, dt_limit: (0.0, 1.0) };
        let row = heads * dim + 2 * groups * width;
        let (xbc, d) = (random.values(n * row), random.values(heads));
        // Independent random columns: the kernel must use the prefix for the state and dA for the segments.
        let mut da = vec![f32::NAN; n * 4 * heads];
        for t in 0..n {
            for h in 0..heads {
                da[t * 16 + h] = random.between(0.0, 1.0);
                da[t * 16 + 4 + h] = random.between(-1.0, 0.0);
                da[t * 16 + 8 + h] = random.between(-2.0, 0.0);
            }
        }
        let (cb, states) = (random.values(3 * groups * q * q), random.values(3 * heads * dim * width));
        let mut y = vec![f32::NAN; n * heads * dim];
        chunk_scan(&s, q, &d, &xbc, &da, &cb, &states, n, &mut y);
        for (at, &got) in y.iter().enumerate() {
            let (p, h, t) = (at % dim, at / dim % heads, at / (dim * heads));
            let (chunk, g) = (t / q, h / 2);
            let mut expected = d[h] * xbc[t * row + h * dim + p];
            for k in 0..width {
                let state = states[((chunk * heads + h) * dim + p) * width + k];
                let c = xbc[t * row + heads * dim + (groups + g) * width + k];
                expected += da[t * 16 + 8 + h].exp() * state * c;
            }
            for j in chunk * q..=t {
                let segment: f32 = (j + 1..=t).map(|i| da[i * 16 + 4 + h]).sum();
                let cb = cb[((chunk * groups + g) * q + t % q) * q + j % q];
                expected += segment.exp() * cb * da[j * 16 + h] * xbc[j * row + h * dim + p];
            }
            assert_close(&[got], &[expected], 1e-5);
        }
    }
}
