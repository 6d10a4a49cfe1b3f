//! Greedy texts of two devices: equal up to the first step that rounding may decide (spec §6).

/// The best logit may be another one where it leads by no more than this.
const TOP2: f32 = 1e-2;
/// A gate may fall the other way where |s₁ − s₀| is no more than this.
const GATE: f64 = 1e-3;

/// How many of the generated tokens are sure to be the same everywhere: those before the first step whose two best logits
/// or whose gates are too close.
///
/// `rows` holds the logits of `prompt` and text, `alphas` the mixing weights of each layer for the same tokens.
#[must_use]
pub fn sure_steps(rows: &[f32], vocab: usize, alphas: &[Vec<f32>], prompt: usize) -> usize {
    let steps = rows.len() / vocab - prompt;
    let unsure = |step: &usize| {
        // Step `step` picks from the logits after this many tokens, all of whose gates it depends on.
        let seen = prompt + step;
        let row = &rows[(seen - 1) * vocab..seen * vocab];
        top2(row) <= TOP2 || alphas.iter().any(|a| a[..seen].iter().any(|a| gate_margin(*a) <= GATE))
    };
    (0..steps).find(unsure).unwrap_or(steps)
}

/// How far the best logit leads.
fn top2(row: &[f32]) -> f32 {
    let mut sorted = row.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.get(1).map_or(f32::INFINITY, |second| sorted[0] - second)
}

/// |s₁ − s₀| from α = sigmoid(s₁ − s₀).
#[must_use]
pub fn gate_margin(alpha: f32) -> f64 {
    let alpha = f64::from(alpha);
    (alpha / (1.0 - alpha)).ln().abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unsure_step_ends_the_comparison() {
        // Two tokens of prompt, three of text, a vocabulary of 2.
        let clear = [1.0, 0.0].repeat(5);
        let sure = vec![0.9; 5];
        assert_eq!(sure_steps(&clear, 2, std::slice::from_ref(&sure), 2), 3);
        let mut tie = clear.clone();
        tie[5] = 0.995; // the logits of the third token, from which the second step picks
        assert_eq!(sure_steps(&tie, 2, std::slice::from_ref(&sure), 2), 1);
        let mut gate = sure.clone();
        gate[3] = 0.5002;
        assert_eq!(sure_steps(&clear, 2, &[sure, gate], 2), 2);
    }

    #[test]
    fn margins_are_those_of_the_gate() {
        for margin in [1e-3f64, 0.02, 3.0] {
            for sign in [-1.0, 1.0] {
                let alpha = 1.0 / (1.0 + (-sign * margin).exp());
                assert!((gate_margin(alpha as f32) - margin).abs() < 1e-6);
            }
        }
    }
}
