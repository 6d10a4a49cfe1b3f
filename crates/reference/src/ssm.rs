//! What the state-space kernels share: the mixer's shape, its per-head parameters and the step size.

use crate::activation::softplus;

/// Shape of a Mamba-2 mixer. A token's activated row is `[x: H·P | B: G·N | C: G·N]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ssm {
    /// H, the number of heads.
    pub heads: usize,
    /// P, channels of a head.
    pub head_dim: usize,
    /// G, groups of heads that share B and C.
    pub groups: usize,
    /// N, the state size.
    pub d_state: usize,
    /// Bounds of Δ after softplus; the upper one may be infinite.
    pub dt_limit: (f32, f32),
}

impl Ssm {
    /// H·P, the width of x and y.
    #[must_use]
    pub fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// H·P + 2·G·N, the length of an activated row.
    #[must_use]
    pub fn row(&self) -> usize {
        self.inner() + 2 * self.groups * self.d_state
    }

    /// The group whose B and C head `h` reads: consecutive heads share one.
    #[must_use]
    pub fn group(&self, h: usize) -> usize {
        h / (self.heads / self.groups)
    }

    /// x of head `h` in token `t` of `xbc`, `[P]`.
    #[must_use]
    pub fn x<'a>(&self, xbc: &'a [f32], t: usize, h: usize) -> &'a [f32] {
        &xbc[t * self.row() + h * self.head_dim..][..self.head_dim]
    }

    /// B of group `g` in token `t` of `xbc`, `[N]`.
    #[must_use]
    pub fn b<'a>(&self, xbc: &'a [f32], t: usize, g: usize) -> &'a [f32] {
        &xbc[t * self.row() + self.inner() + g * self.d_state..][..self.d_state]
    }

    /// C of group `g` in token `t` of `xbc`, `[N]`.
    #[must_use]
    pub fn c<'a>(&self, xbc: &'a [f32], t: usize, g: usize) -> &'a [f32] {
        self.b(xbc, t, self.groups + g)
    }
}

/// Per-head parameters of a mixer, each `[H]`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Added to the raw Δ before softplus.
    pub dt_bias: &'a [f32],
    /// `A = −exp(a_log)`.
    pub a_log: &'a [f32],
    /// Weight of the skip connection `D·x`.
    pub d: &'a [f32],
}

/// `(Δ, Δ·A)` of head `h`: `Δ = clamp(softplus(raw + dt_bias), limits)`, `A = −exp(a_log)` (spec 1.1 step 3).
pub(crate) fn step_size(s: &Ssm, p: &Heads, h: usize, raw: f32) -> (f64, f64) {
    let (lo, hi) = (f64::from(s.dt_limit.0), f64::from(s.dt_limit.1));
    let dt = softplus(f64::from(raw) + f64::from(p.dt_bias[h])).max(lo).min(hi);
    (dt, -dt * f64::from(p.a_log[h]).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Ssm = Ssm { heads: 6, head_dim: 2, groups: 3, d_state: 4, dt_limit: (0.1, 2.0) };

    #[test]
    fn consecutive_heads_share_a_group() {
        let groups: Vec<usize> = (0..6).map(|h| S.group(h)).collect();
        assert_eq!(groups, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn rows_split_into_x_b_c() {
        let xbc: Vec<f32> = (0..2 * S.row()).map(|v| v as f32).collect();
        assert_eq!((S.inner(), S.row()), (12, 36));
        assert_eq!(S.x(&xbc, 1, 5), [46., 47.]);
        assert_eq!(S.b(&xbc, 0, 2), [20., 21., 22., 23.]);
        assert_eq!(S.c(&xbc, 1, 1), [64., 65., 66., 67.]);
    }

    #[test]
    fn step_sizes_are_clamped_after_softplus() {
        let p = Heads { dt_bias: &[1.0], a_log: &[3f32.ln()], d: &[0.0] };
        let s = Ssm { heads: 1, groups: 1, ..S };
        for (raw, expected) in [(-1.0, 2f64.ln()), (-50.0, 0.1), (50.0, 2.0)] {
            let (dt, da) = step_size(&s, &p, 0, raw);
            assert!((dt - expected).abs() <= 1e-7, "dt {dt}, expected {expected}");
            assert!((da + 3.0 * expected).abs() <= 1e-6, "dA {da}");
        }
        let open = Ssm { dt_limit: (0.0, f32::INFINITY), ..s };
        assert_eq!(step_size(&open, &p, 0, 50.0).0, 51.0);
    }
}
