//! Matrix-vector product: the one-token form of `matmul`.
//!
//! `y[r] = Σ_c w[r, c]·x[c] + bias[r]`; x `[cols]`, w `[rows, cols]`, bias and y `[rows]`. Source: `nn.Linear`, spec
//! section 3.

use crate::sum::dot;

/// y = w·x + bias, with rows = `y.len()` and cols = `x.len()`.
pub fn matvec(x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    assert_eq!(w.len(), x.len() * y.len(), "matvec: w is not [{}, {}]", y.len(), x.len());
    if let Some(bias) = bias {
        assert_eq!(bias.len(), y.len(), "matvec: one bias per row");
    }
    for (r, (w, y)) in w.chunks_exact(x.len()).zip(y.iter_mut()).enumerate() {
        let bias = bias.map_or(0.0, |b| f64::from(b[r]));
        *y = (dot(w, x) + bias) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed_with_and_without_bias() {
        let (x, w) = ([1., -2.], [3., 4., 5., 6., 0., 0.5]);
        let mut y = [f32::NAN; 3];
        matvec(&x, &w, None, &mut y);
        assert_eq!(y, [-5., -7., -1.]);
        matvec(&x, &w, Some(&[1., 2., 3.]), &mut y);
        assert_eq!(y, [-4., -5., 2.]);
    }

    #[test]
    fn sums_in_f64() {
        let mut y = [0.0];
        matvec(&[1e8, 1.0, -1e8], &[1.0; 3], None, &mut y);
        assert_eq!(y, [1.0]);
    }
}
