//! The activation of an MLP that is gated by GELU.
//!
//! `out[t, j] = gelu(x[t, 2j])·x[t, 2j + 1]`, `gelu(v) = v·Φ(v)` with the error function itself, not the tanh that stands
//! in for it. x `[n, 2·f]`, out `[n, f]`. Source: arXiv 1606.08415, eq. 2; arXiv 2002.05202.

/// Gates all rows of `x`, which lie as densely as the outputs.
pub fn geglu(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), 2 * out.len(), "geglu: x has two numbers for each of out");
    for (o, pair) in out.iter_mut().zip(x.chunks_exact(2)) {
        *o = (gelu(f64::from(pair[0])) * f64::from(pair[1])) as f32;
    }
}

fn gelu(v: f64) -> f64 {
    0.5 * v * (1.0 + erf(v / std::f64::consts::SQRT_2))
}

/// 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·5···(2n+1)): every term has the sign of x, so nothing cancels.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    #[test]
    fn known_values_of_the_error_function() {
        for (x, y) in [(0.0, 0.0), (0.5, 0.520_499_877_813_046_5), (2.0, 0.995_322_265_018_952_7), (9.0, 1.0)] {
            assert!((erf(x) - y).abs() < 1e-15 && (erf(-x) + y).abs() < 1e-15, "erf({x}) is {}", erf(x));
        }
    }

    #[test]
    fn even_entries_gate_odd_ones() {
        let mut out = [f32::NAN; 3];
        geglu(&[1., 2., -1., 2., 30., -1.], &mut out);
        assert_close(&out, &[2. * 0.841_344_7, -2. * 0.158_655_25, -30.], 1e-6);
    }
}
