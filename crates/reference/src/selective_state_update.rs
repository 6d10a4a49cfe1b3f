//! One token of the state-space recurrence: the decode form.
//!
//! `S[h, p, :] ← exp(Δ·A)·S[h, p, :] + Δ·x[h, p]·B[g(h), :]`, `y[h, p] = S[h, p, :]·C[g(h), :] + D[h]·x[h, p]`. x and
//! y `[H·P]`, b and c `[G·N]`, dt_raw `[H]`, state `[H·P, N]`. Source: spec 1.1 steps 3 and 4; arXiv 2405.21060, eq.
//! 2 and section 7.

use crate::ssm::step_size;
use crate::sum::decay_add_dot;
use crate::{Heads, Ssm};

/// Advances `state` by one token and writes y, D·x included and the gate not.
pub fn selective_state_update(
    s: &Ssm,
    p: &Heads,
    x: &[f32],
    b: &[f32],
    c: &[f32],
    dt_raw: &[f32],
    state: &mut [f32],
    y: &mut [f32],
) {
    let (inner, n) = (s.inner(), s.d_state);
    assert!(x.len() == inner && y.len() == inner, "selective_state_update: x and y are [H·P]");
    assert_eq!(b.len(), s.groups * n, "selective_state_update: b is [G·N]");
    assert_eq!(c.len(), b.len(), "selective_state_update: c is [G·N]");
    assert_eq!(dt_raw.len(), s.heads, "selective_state_update: one dt per head");
    assert_eq!(state.len(), inner * n, "selective_state_update: state is [H·P, N]");
    // Widened once: every row of a group's heads reads them again.
    let b: Vec<f64> = b.iter().map(|&v| f64::from(v)).collect();
    let c: Vec<f64> = c.iter().map(|&v| f64::from(v)).collect();
    for (h, &raw) in dt_raw.iter().enumerate() {
        let (dt, da) = step_size(s, p, h, raw);
        let decay = da.exp();
        let group = s.group(h) * n..(s.group(h) + 1) * n;
        let (b, c) = (&b[group.clone()], &c[group]);
        for row in h * s.head_dim..(h + 1) * s.head_dim {
            let x = f64::from(x[row]);
            let read = decay_add_dot(&mut state[row * n..][..n], decay, dt * x, b, c);
            y[row] = (read + f64::from(p.d[h]) * x) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    #[test]
    fn hand_computed_single_head() {
        let s = Ssm { heads: 1, head_dim: 1, groups: 1, d_state: 2, dt_limit: (0.0, f32::INFINITY) };
        // raw + bias = 0, so dt = softplus(0) = ln 2; A = −1, so the decay is exp(−ln 2) = 1/2.
        let p = Heads { dt_bias: &[0.25], a_log: &[0.0], d: &[10.0] };
        let (mut state, mut y) = ([4.0, 8.0], [f32::NAN]);
        selective_state_update(&s, &p, &[3.0], &[1.0, -2.0], &[1.0, 0.5], &[-0.25], &mut state, &mut y);
        let input = 3.0 * 2f32.ln();
        assert_close(&state, &[2.0 + input, 4.0 - 2.0 * input], 1e-7);
        assert_close(&y, &[(2.0 + input) + 0.5 * (4.0 - 2.0 * input) + 30.0], 1e-7);
    }

    #[test]
    fn heads_groups_and_channels_against_index_arithmetic() {
        let mut random = Random::new(12);
        for (heads, groups) in [(4, 1), (4, 2), (4, 4)] {
            let s = Ssm { heads, head_dim: 3, groups, d_state: 9, dt_limit: (0.05, 0.9) };
            let (bias, a_log, d) = (random.values(heads), random.values(heads), random.values(heads));
            let p = Heads { dt_bias: &bias, a_log: &a_log, d: &d };
            let (x, raw) = (random.values(3 * heads), random.values(heads));
            let (b, c) = (random.values(9 * groups), random.values(9 * groups));
            let before = random.values(27 * heads);
            let (mut state, mut y) = (before.clone(), vec![f32::NAN; 3 * heads]);
            selective_state_update(&s, &p, &x, &b, &c, &raw, &mut state, &mut y);
            for h in 0..heads {
                let dt = (1.0 + f64::from(raw[h] + bias[h]).exp()).ln().clamp(0.05, 0.9) as f32;
                let decay = (-dt * a_log[h].exp()).exp();
                for p in 0..3 {
                    let mut sum = d[h] * x[h * 3 + p];
                    for k in 0..9 {
                        let shared = h * groups / heads * 9 + k;
                        let at = (h * 3 + p) * 9 + k;
                        let next = decay * before[at] + dt * x[h * 3 + p] * b[shared];
                        assert_close(&state[at..=at], &[next], 1e-6);
                        sum += next * c[shared];
                    }
                    assert_close(&y[h * 3 + p..=h * 3 + p], &[sum], 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_strong_decay_forgets_and_stays_finite() {
        let s = Ssm { heads: 1, head_dim: 1, groups: 1, d_state: 1, dt_limit: (0.0, f32::INFINITY) };
        let p = Heads { dt_bias: &[0.0], a_log: &[80.0], d: &[0.0] };
        let (mut state, mut y) = ([1e30], [f32::NAN]);
        selective_state_update(&s, &p, &[0.0], &[1.0], &[1.0], &[1e4], &mut state, &mut y);
        assert_eq!((state, y), ([0.0], [0.0]));
    }
}
