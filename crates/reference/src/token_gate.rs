//! The gate of a selective-attention layer: which tokens want attention, and how much of it is mixed in.
//!
//! `s = gate·x + bias ∈ R²`, `alpha = softmax(s)[1] = sigmoid(s₁ − s₀)`, `wants = s₁ > s₀` (a tie is not selected). x
//! `[n, cols]`, gate `[2, cols]`, bias `[2]`, alpha and wants `[n]`. Source: arXiv 2410.18572, eq. 1 and 2; spec 1.2
//! steps 1 to 3.

use crate::activation::sigmoid;
use crate::sum::dot;

/// Gates every token; `n = x.len() / cols`.
pub fn token_gate(x: &[f32], gate: &[f32], bias: &[f32], cols: usize, alpha: &mut [f32], wants: &mut [u32]) {
    assert!(x.len().is_multiple_of(cols), "token_gate: x is not whole rows of {cols}");
    assert!(gate.len() == 2 * cols && bias.len() == 2, "token_gate: gate is [2, cols], bias [2]");
    let n = x.len() / cols;
    assert!(alpha.len() == n && wants.len() == n, "token_gate: one alpha and one wish per token");
    let (pass, attend) = gate.split_at(cols);
    for ((x, alpha), wants) in x.chunks_exact(cols).zip(alpha).zip(wants) {
        let s0 = dot(pass, x) + f64::from(bias[0]);
        let s1 = dot(attend, x) + f64::from(bias[1]);
        *alpha = sigmoid(s1 - s0) as f32;
        *wants = u32::from(s1 > s0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    /// Gates rows of two channels with s = (x₀, x₁) + bias.
    fn gate(x: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<u32>) {
        let n = x.len() / 2;
        let (mut alpha, mut wants) = (vec![f32::NAN; n], vec![7; n]);
        token_gate(x, &[1., 0., 0., 1.], bias, 2, &mut alpha, &mut wants);
        (alpha, wants)
    }

    #[test]
    fn the_second_score_attends() {
        let l = 3f32.ln();
        let (alpha, wants) = gate(&[0., l, l, 0., 2., 2. + l], &[0., 0.]);
        assert_close(&alpha, &[0.75, 0.25, 0.75], 1e-6);
        assert_eq!(wants, [1, 0, 1]);
    }

    #[test]
    fn a_tie_is_not_selected() {
        let (alpha, wants) = gate(&[0.3, 0.3], &[0., 0.]);
        assert_eq!((alpha[0], wants[0]), (0.5, 0));
    }

    #[test]
    fn bias_is_added_per_score() {
        let (_, wants) = gate(&[1., 0., 1., 0.], &[-3., -1.5]);
        assert_eq!(wants, [1, 1]);
        let (_, wants) = gate(&[0., 1.], &[0., -30.]);
        assert_eq!(wants, [0]);
    }

    #[test]
    fn extreme_margins_stay_finite() {
        let (alpha, wants) = gate(&[-3e38, 3e38, 3e38, -3e38], &[0., 0.]);
        assert_eq!((alpha, wants), (vec![1.0, 0.0], vec![1, 0]));
    }

    #[test]
    fn weights_meet_their_channels() {
        let (mut alpha, mut wants) = ([0.0], [0]);
        // s₀ = 1·2 + 2·3 = 8, s₁ = 3·2 + 1·3 = 9 minus 1 of bias: a tie; one more channel value decides.
        token_gate(&[2., 3.], &[1., 2., 3., 1.], &[0., -1.], 2, &mut alpha, &mut wants);
        assert_eq!((alpha[0], wants[0]), (0.5, 0));
        token_gate(&[2.5, 3.], &[1., 2., 3., 1.], &[0., -1.], 2, &mut alpha, &mut wants);
        assert_eq!(wants[0], 1);
    }
}
