//! Root-mean-square norm, over whole rows or over equal groups of a row.
//!
//! `out = x / sqrt(mean(x²) + eps) · weight`, the mean taken inside each of `groups` groups of `cols / groups`
//! channels; x and out `[n, cols]`, weight `[cols]`. Source: spec section 1 (pre-norms, final norm); no "1 + weight"
//! variant.

use crate::sum::dot;

/// Norm of every row of `x`; `n = x.len() / cols`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, cols: usize, groups: usize, out: &mut [f32]) {
    assert!(x.len().is_multiple_of(cols), "rms_norm: x is not whole rows of {cols}");
    assert_eq!(x.len(), out.len(), "rms_norm: out has the shape of x");
    assert_eq!(weight.len(), cols, "rms_norm: one weight per channel");
    assert!(cols.is_multiple_of(groups), "rms_norm: {groups} groups do not divide {cols} channels");
    let width = cols / groups;
    // Group i of the flat array is group i mod groups of its row, and so are its weights.
    let weights = weight.chunks_exact(width).cycle();
    for ((x, out), weight) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(weights) {
        let scale = inverse_rms(dot(x, x), width, eps);
        for ((o, &x), &w) in out.iter_mut().zip(x).zip(weight) {
            *o = (f64::from(x) * scale * f64::from(w)) as f32;
        }
    }
}

/// `1 / sqrt(sum_of_squares / width + eps)`.
pub(crate) fn inverse_rms(sum_of_squares: f64, width: usize, eps: f32) -> f64 {
    1.0 / (sum_of_squares / width as f64 + f64::from(eps)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed_rows() {
        // mean(3², 4²) = 12.5; mean(1², 7²) = 25.
        let mut out = [f32::NAN; 4];
        rms_norm(&[3., 4., 1., 7.], &[2., 1.], 0.0, 2, 1, &mut out);
        let r = 12.5f64.sqrt();
        assert_eq!(out, [(6.0 / r) as f32, (4.0 / r) as f32, 0.4, 1.4]);
    }

    #[test]
    fn groups_are_normed_apart_and_weights_follow_the_channel() {
        let mut out = [f32::NAN; 8];
        rms_norm(&[2., 2., 8., 8., 4., 4., 0.5, 0.5], &[1., 2., 3., 4.], 0.0, 4, 2, &mut out);
        assert_eq!(out, [1., 2., 3., 4., 1., 2., 3., 4.]);
    }

    #[test]
    fn eps_stands_under_the_root_and_saves_zero_rows() {
        let mut out = [f32::NAN; 2];
        rms_norm(&[0., 0.], &[1., 1.], 1e-5, 2, 1, &mut out);
        assert_eq!(out, [0., 0.]);
        // 1/sqrt(9 + 7) = 1/4
        rms_norm(&[3., -3.], &[1., 1.], 7.0, 2, 1, &mut out);
        assert_eq!(out, [0.75, -0.75]);
    }

    #[test]
    fn huge_values_do_not_overflow() {
        let mut out = [f32::NAN; 2];
        rms_norm(&[3e38, -3e38], &[1., 1.], 1e-5, 2, 1, &mut out);
        assert_eq!(out, [1., -1.]);
    }
}
