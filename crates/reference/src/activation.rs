//! Scalar activations, in f64 so that a caller rounds only once.
//!
//! Source: spec 1.1 steps 2, 3 and 5 (SiLU, softplus) and 1.2 step 3 (sigmoid).

/// `1 / (1 + exp(−x))`; 0 and 1 at the extremes, never NaN for a finite `x`.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x · sigmoid(x)`, written as one division so that a large negative `x` gives −0 and not `−x · 0`.
#[must_use]
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// `y ← y · silu(z)`.
pub fn gate(z: &[f32], y: &mut [f32]) {
    assert_eq!(z.len(), y.len(), "gate: z has the shape of y");
    y.iter_mut().zip(z).for_each(|(y, &z)| *y = (f64::from(*y) * silu(f64::from(z))) as f32);
}

/// `max(x, 0)²`.
#[must_use]
pub fn relu2(x: f64) -> f64 {
    x.max(0.0) * x.max(0.0)
}

/// `ln(1 + exp(x))`. Above 20 the result is `x` itself: exp would overflow long before the difference is visible.
#[must_use]
pub fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64) {
        let close = (got - expected).abs() <= 1e-12 * (1.0 + expected.abs());
        assert!(close, "got {got}, expected {expected}");
    }

    #[test]
    fn known_values() {
        near(sigmoid(0.0), 0.5);
        near(sigmoid(3f64.ln()), 0.75);
        near(silu(3f64.ln()), 0.75 * 3f64.ln());
        near(silu(-(3f64.ln())), -0.25 * 3f64.ln());
        assert_eq!((relu2(3.0), relu2(-3.0), relu2(0.0)), (9.0, 0.0, 0.0));
        near(softplus(0.0), std::f64::consts::LN_2);
        // ln(1 + e^ln(3)) = ln 4
        near(softplus(3f64.ln()), 4f64.ln());
    }

    #[test]
    fn softplus_is_continuous_at_the_cut() {
        let step = softplus(20.0 + 1e-9) - softplus(20.0 - 1e-9);
        assert!(step.abs() <= 1e-8, "{step}");
        // Below the cut the formula still adds ln(1 + e^−x).
        near(softplus(19.0) - 19.0, (-19f64).exp().ln_1p());
    }

    #[test]
    fn small_softplus_keeps_its_relative_precision() {
        // ln(1 + e^−40) = e^−40 to 17 digits; ln(1 + x) without ln_1p would give 0.
        let ratio = softplus(-40.0) / (-40f64).exp();
        assert!((ratio - 1.0).abs() <= 1e-12, "{ratio}");
    }

    #[test]
    fn extremes_are_finite() {
        for x in [f64::from(f32::MAX), 1e4, 89.0, 20.0] {
            assert_eq!(sigmoid(x) as f32, 1.0);
            assert_eq!(silu(x) as f32, x as f32);
            assert_eq!(softplus(x) as f32, x as f32);
            assert!(sigmoid(-x) >= 0.0 && sigmoid(-x) < 3e-9);
            assert!(silu(-x) <= 0.0 && silu(-x) > -5e-8);
            assert!(softplus(-x) >= 0.0 && softplus(-x) < 3e-9);
        }
    }
}
