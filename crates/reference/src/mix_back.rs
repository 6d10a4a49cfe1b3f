//! Mixes the attention's output back into the residual stream of the selected tokens.
//!
//! `h[t] ← (1 − alpha[t])·h[t] + alpha[t]·o[r]` for `t = indices[r]`; other rows stay as they are. o `[count, cols]`,
//! alpha `[n]`, h `[n, cols]`. Source: arXiv 2410.18572, eq. 5; spec 1.2 step 7.

/// Mixes row r of `o` into row `indices[r]` of `h`.
pub fn mix_back(o: &[f32], cols: usize, alpha: &[f32], indices: &[u32], h: &mut [f32]) {
    assert!(o.len() >= indices.len() * cols, "mix_back: one row of o per selected token");
    for (o, &t) in o.chunks_exact(cols).zip(indices) {
        let t = t as usize;
        let alpha = f64::from(alpha[t]);
        for (h, &o) in h[t * cols..][..cols].iter_mut().zip(o) {
            *h = ((1.0 - alpha) * f64::from(*h) + alpha * f64::from(o)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_selected_rows_change() {
        let mut h = [1., 2., 3., 4., 5., 6.];
        mix_back(&[10., 20., 50., 60.], 2, &[0.25, 0.9, 0.5], &[0, 2], &mut h);
        assert_eq!(h, [3.25, 6.5, 3., 4., 27.5, 33.]);
    }

    #[test]
    fn alpha_one_replaces_and_zero_keeps_exactly() {
        let mut h = [0.1, 0.2];
        mix_back(&[7.7, 8.8], 1, &[1.0, 0.0], &[0, 1], &mut h);
        assert_eq!(h, [7.7, 0.2]);
    }

    #[test]
    fn nothing_selected_changes_nothing() {
        let mut h = [1., 2.];
        mix_back(&[], 2, &[0.5], &[], &mut h);
        assert_eq!(h, [1., 2.]);
    }
}
