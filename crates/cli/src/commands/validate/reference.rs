//! What is expected where the golden numbers do not apply: the CPU device's results, and how far they can be relied on.

use taipan::{Model, Result, SessionOptions};

use super::case::{Expected, Prompt};
use super::checks::prefill_rows;

/// Where two gate scores are closer than this, two correct results may differ.
const GATE_TIE: f64 = 1e-3;

/// Where the two largest logits are closer than this, so may the greedy token.
const TOKEN_TIE: f32 = 1e-2;

/// The CPU device's results.
pub(super) async fn compute(oracle: &Model, options: &SessionOptions, prompt: &Prompt) -> Result<Expected> {
    let mut session = oracle.session(options.clone())?;
    let rows = prefill_rows(&mut session, &prompt.ids).await?;
    let comparable = first_tie(&rows.alpha, prompt.ids.len());
    let mut greedy = Vec::new();
    // After a tie of a gate the state is one of two, and so is all that follows.
    if comparable == prompt.ids.len() {
        let mut logits = session.logits().await?;
        while greedy.len() < prompt.expected.greedy.len() {
            let Some(best) = clear_winner(&logits) else { break };
            greedy.push(best);
            logits = session.decode(best).await?;
        }
    }
    Ok(Expected { logits: rows.logits, mask: rows.mask, alpha: rows.alpha, greedy, comparable })
}

/// The first position at which some gate's decision hangs by a hair.
fn first_tie(alpha: &[Vec<f32>], len: usize) -> usize {
    let is_tie = |alpha: &f32| {
        let alpha = f64::from(*alpha);
        (alpha / (1.0 - alpha)).ln().abs() <= GATE_TIE
    };
    alpha.iter().filter_map(|layer| layer.iter().position(is_tie)).min().unwrap_or(len)
}

/// The id of the largest logit, unless the second largest is too close.
fn clear_winner(logits: &[f32]) -> Option<u32> {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]))?;
    let second = (0..logits.len()).filter(|i| *i != best).map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
    (logits[best] - second > TOKEN_TIE).then_some(best as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_seen() {
        assert_eq!(first_tie(&[vec![0.9, 0.1, 0.500_2], vec![0.6, 0.4, 0.3]], 3), 2);
        assert_eq!(first_tie(&[vec![0.9, 0.1, 0.500_3]], 3), 3);
        assert_eq!(first_tie(&[], 5), 5);
        assert_eq!(clear_winner(&[0.0, 1.0, 0.98]), Some(1));
        assert_eq!(clear_winner(&[0.0, 1.0, 0.995]), None);
        assert_eq!(clear_winner(&[]), None);
    }
}
