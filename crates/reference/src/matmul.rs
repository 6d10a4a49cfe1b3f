//! Matrix product with PyTorch's weight layout.
//!
//! `y[t, r] = Σ_c w[r, c]·x[t, c] + bias[r]`; x `[n, cols]`, w `[rows, cols]`, bias `[rows]`, y `[n, rows]`. Source:
//! `nn.Linear`, spec section 3.

use crate::matvec;

/// y = x·wᵀ + bias for the `n = x.len() / cols` rows of x.
pub fn matmul(x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize, cols: usize, y: &mut [f32]) {
    assert!(x.len().is_multiple_of(cols), "matmul: x is not whole rows of {cols}");
    assert_eq!(w.len(), rows * cols, "matmul: w is not [{rows}, {cols}]");
    assert_eq!(y.len(), x.len() / cols * rows, "matmul: y is not [n, {rows}]");
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(rows)) {
        matvec(x, w, bias, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    #[test]
    fn hand_computed() {
        let mut y = [0.0; 4];
        // x = [[1, 2, 3], [0, −1, 1]], w = [[1, 0, 2], [4, 5, 6]]
        matmul(&[1., 2., 3., 0., -1., 1.], &[1., 0., 2., 4., 5., 6.], Some(&[10., 100.]), 2, 3, &mut y);
        assert_eq!(y, [17., 132., 12., 101.]);
    }

    #[test]
    fn naive_loop_on_odd_shapes() {
        let mut random = Random::new(2);
        for (n, rows, cols) in [(1, 1, 1), (5, 3, 17), (2, 9, 8), (7, 1, 33)] {
            let (x, w) = (random.values(n * cols), random.values(rows * cols));
            let bias = random.values(rows);
            let mut expected = vec![0.0; n * rows];
            for t in 0..n {
                for r in 0..rows {
                    let mut sum = f64::from(bias[r]);
                    for c in 0..cols {
                        sum += f64::from(x[t * cols + c]) * f64::from(w[r * cols + c]);
                    }
                    expected[t * rows + r] = sum as f32;
                }
            }
            let mut y = vec![f32::NAN; n * rows];
            matmul(&x, &w, Some(&bias), rows, cols, &mut y);
            assert_close(&y, &expected, 1e-7);
        }
    }

    #[test]
    #[should_panic(expected = "w is not [2, 3]")]
    fn a_short_weight_is_refused() {
        matmul(&[0.0; 3], &[0.0; 5], None, 2, 3, &mut [0.0; 2]);
    }
}
