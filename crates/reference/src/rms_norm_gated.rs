//! The Mamba-2 mixer's norm with its gate, in the three orders met in published checkpoints.
//!
//! With rms() taken inside each of `groups` groups of `cols / groups` channels: norm after gate
//! `rms(y·silu(z))·weight` (Taipan and the default everywhere), norm before gate `rms(y)·weight·silu(z)`, gate only
//! `y·silu(z)`. y and out `[n, cols]`, weight `[cols]`; z is read inside wider rows, as in_proj leaves it. Source:
//! spec 1.1 step 5; arXiv 2405.21060, section 7 (the block with its extra norm).

use crate::activation::silu;
use crate::rms_norm::inverse_rms;

/// Where the norm stands relative to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateMode {
    /// `rms(y·silu(z))·weight`
    NormAfterGate,
    /// `rms(y)·weight·silu(z)`
    NormBeforeGate,
    /// `y·silu(z)`; eps and weight are not read
    GateOnly,
}

/// Gated norm of the `n = y.len() / cols` rows of y; z of token t is `z[t·z_stride + z_offset..][..cols]`.
pub fn rms_norm_gated(
    y: &[f32],
    z: &[f32],
    z_stride: usize,
    z_offset: usize,
    weight: &[f32],
    eps: f32,
    cols: usize,
    groups: usize,
    mode: GateMode,
    out: &mut [f32],
) {
    assert!(y.len().is_multiple_of(cols), "rms_norm_gated: y is not whole rows of {cols}");
    assert_eq!(y.len(), out.len(), "rms_norm_gated: out has the shape of y");
    assert!(cols.is_multiple_of(groups), "rms_norm_gated: {groups} groups do not divide {cols}");
    if mode != GateMode::GateOnly {
        assert_eq!(weight.len(), cols, "rms_norm_gated: one weight per channel");
    }
    let width = cols / groups;
    let mut gate = vec![0.0; cols];
    for (t, (y, out)) in y.chunks_exact(cols).zip(out.chunks_exact_mut(cols)).enumerate() {
        for (g, &z) in gate.iter_mut().zip(&z[t * z_stride + z_offset..][..cols]) {
            *g = silu(f64::from(z));
        }
        for start in (0..cols).step_by(width) {
            let group = start..start + width;
            let (y, gate, out) = (&y[group.clone()], &gate[group.clone()], &mut out[group.clone()]);
            match mode {
                GateMode::NormAfterGate => norm_after(y, gate, &weight[group], eps, out),
                GateMode::NormBeforeGate => norm_before(y, gate, &weight[group], eps, out),
                GateMode::GateOnly => gate_only(y, gate, out),
            }
        }
    }
}

fn norm_after(y: &[f32], gate: &[f64], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares = y.iter().zip(gate).map(|(&y, &g)| (f64::from(y) * g).powi(2)).sum();
    let scale = inverse_rms(squares, y.len(), eps);
    for (((o, &y), &g), &w) in out.iter_mut().zip(y).zip(gate).zip(weight) {
        *o = (f64::from(y) * g * scale * f64::from(w)) as f32;
    }
}

fn norm_before(y: &[f32], gate: &[f64], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares = y.iter().map(|&y| f64::from(y).powi(2)).sum();
    let scale = inverse_rms(squares, y.len(), eps);
    for (((o, &y), &g), &w) in out.iter_mut().zip(y).zip(gate).zip(weight) {
        *o = (f64::from(y) * scale * f64::from(w) * g) as f32;
    }
}

fn gate_only(y: &[f32], gate: &[f64], out: &mut [f32]) {
    for ((o, &y), &g) in out.iter_mut().zip(y).zip(gate) {
        *o = (f64::from(y) * g) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    const COLS: usize = 6;
    const STRIDE: usize = 11;
    const OFFSET: usize = 3;

    /// The formulas again, channel by channel, with the sum of squares recomputed for each.
    fn expected(y: &[f32], z: &[f32], w: &[f32], eps: f32, groups: usize, mode: GateMode) -> Vec<f32> {
        let n = y.len() / COLS;
        let at = |v: &[f32], i: usize| f64::from(v[i]);
        let silu = |t: usize, c: usize| {
            let z = at(z, t * STRIDE + OFFSET + c);
            z * (1.0 / (1.0 + (-z).exp()))
        };
        let mut out = Vec::new();
        for t in 0..n {
            for c in 0..COLS {
                let members = (0..COLS).filter(|m| m * groups / COLS == c * groups / COLS);
                let gated = |c: usize| at(y, t * COLS + c) * silu(t, c);
                let plain = |c: usize| at(y, t * COLS + c);
                let norm = |value: &dyn Fn(usize) -> f64| {
                    let sum: f64 = members.clone().map(|m| value(m).powi(2)).sum();
                    value(c) / (sum * groups as f64 / COLS as f64 + f64::from(eps)).sqrt()
                };
                out.push(match mode {
                    GateMode::NormAfterGate => norm(&gated) * at(w, c),
                    GateMode::NormBeforeGate => norm(&plain) * at(w, c) * silu(t, c),
                    GateMode::GateOnly => gated(c),
                } as f32);
            }
        }
        out
    }

    #[test]
    fn every_mode_and_grouping_matches_its_formula() {
        let mut random = Random::new(3);
        let (y, z, w) = (random.values(3 * COLS), random.values(3 * STRIDE), random.values(COLS));
        for mode in [GateMode::NormAfterGate, GateMode::NormBeforeGate, GateMode::GateOnly] {
            for groups in [1, 2, 3, 6] {
                let mut out = vec![f32::NAN; y.len()];
                rms_norm_gated(&y, &z, STRIDE, OFFSET, &w, 1e-2, COLS, groups, mode, &mut out);
                assert_close(&out, &expected(&y, &z, &w, 1e-2, groups, mode), 1e-6);
            }
        }
    }

    #[test]
    fn gate_only_needs_no_weight() {
        let mut out = [f32::NAN];
        // silu(ln 3) = 0.75·ln 3
        let z = 3f32.ln();
        rms_norm_gated(&[2.0], &[z], 1, 0, &[], 0.0, 1, 1, GateMode::GateOnly, &mut out);
        assert_close(&out, &[1.5 * z], 1e-6);
    }
}
