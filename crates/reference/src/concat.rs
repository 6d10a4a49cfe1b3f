//! Rows side by side.
//!
//! `out[t] = (a[t] | b[t])`. a `[n, a_cols]`, b `[n, b_cols]`, out `[n, a_cols + b_cols]`; with no columns of b a copy.
//! Source: the input of the shared blocks of Zamba2 (arXiv 2411.15242 §2).

/// Puts `n = out.len() / (a_cols + b_cols)` rows side by side.
pub fn concat(a: &[f32], a_cols: usize, b: &[f32], b_cols: usize, out: &mut [f32]) {
    let cols = a_cols + b_cols;
    assert!(out.len().is_multiple_of(cols), "concat: out is not whole rows of {cols}");
    for (t, out) in out.chunks_exact_mut(cols).enumerate() {
        let (first, second) = out.split_at_mut(a_cols);
        first.copy_from_slice(&a[t * a_cols..(t + 1) * a_cols]);
        second.copy_from_slice(&b[t * b_cols..(t + 1) * b_cols]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_side_by_side() {
        let mut out = [f32::NAN; 6];
        concat(&[1., 2.], 1, &[3., 4., 5., 6.], 2, &mut out);
        assert_eq!(out, [1., 3., 4., 2., 5., 6.]);
        let mut out = [f32::NAN; 2];
        concat(&[1., 2.], 1, &[], 0, &mut out);
        assert_eq!(out, [1., 2.]);
    }
}
