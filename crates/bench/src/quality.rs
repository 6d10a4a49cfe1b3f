//! Agreement with the CPU under forced decoding: the same tokens on both, logits compared after each.

use taipan::{Model, Result, SessionOptions};

use crate::draw::ids;
use crate::record::Quality;

/// Logits after each token of a fixed sequence.
pub struct Logits {
    rows: Vec<Vec<f32>>,
}

/// Tokens that are compared: fewer of a large model, whose CPU side is slow.
#[must_use]
pub fn tokens(parameters: u64) -> usize {
    match parameters {
        0..100_000_000 => 64,
        100_000_000..600_000_000 => 24,
        _ => 12,
    }
}

/// Token by token: the recurrent form.
///
/// # Errors
/// Device errors.
pub async fn decoded(model: &Model, n: usize) -> Result<Logits> {
    let mut session = model.session(SessionOptions::default())?;
    let mut rows = Vec::with_capacity(n);
    for id in ids(model.config(), n, 0) {
        rows.push(session.decode(id).await?);
    }
    Ok(Logits { rows })
}

/// The first half as a prompt, in the chunked form, the rest token by token; and the share of tokens that attended.
///
/// # Errors
/// Device errors.
pub async fn mixed(model: &Model, n: usize) -> Result<(Logits, Option<f64>)> {
    let mut session = model.session(SessionOptions::default())?;
    let all = ids(model.config(), n, 0);
    let vocab = model.config().vocab_size;
    let (prompt, rest) = all.split_at(n / 2);
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(n);
    let keep = |r: taipan::Rows<'_>| {
        rows.extend(r.logits.chunks_exact(vocab).map(<[f32]>::to_vec));
        Ok(())
    };
    session.prefill_rows(prompt, keep).await?;
    for id in rest {
        rows.push(session.decode(*id).await?);
    }
    Ok((Logits { rows }, share(&session.stats().await?)))
}

/// Share of tokens that attended, over all selective attention layers.
#[must_use]
pub fn share(stats: &taipan::Stats) -> Option<f64> {
    let selected: u64 = stats.sal.iter().map(|s| s.selected).sum();
    (!stats.sal.is_empty()).then(|| selected as f64 / (stats.tokens * stats.sal.len() as u64) as f64)
}

/// The most probable token; the first of equals. A NaN ranks highest, so it cannot pass for agreement.
fn argmax(row: &[f32]) -> usize {
    (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a vocabulary is not empty")
}

/// Compares logits; a NaN counts as an infinite difference.
#[must_use]
pub fn compare(found: &Logits, expected: &Logits, reference: &str) -> Quality {
    let pairs = || found.rows.iter().zip(&expected.rows);
    let wrong: Vec<usize> = pairs().enumerate().filter(|(_, (a, b))| argmax(a) != argmax(b)).map(|(i, _)| i).collect();
    let errors = pairs().flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| f64::from((a - b).abs()));
    let n = found.rows.len();
    Quality {
        agreement_rate: (n - wrong.len()) as f64 / n as f64,
        first_disagreement: wrong.first().copied(),
        // JSON has no infinity.
        max_abs_logit_err: errors.fold(0.0, |worst, e| if e.is_finite() { f64::max(worst, e) } else { f64::MAX }),
        tokens: n,
        reference: reference.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreements_are_found_and_counted() {
        let of = |rows: &[[f32; 3]]| Logits { rows: rows.iter().map(|r| r.to_vec()).collect() };
        let expected = of(&[[1.0, 2.0, 0.0], [0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.5, 0.0, 0.0]]);
        let same = compare(&expected, &expected, "itself");
        assert_eq!((same.agreement_rate, same.first_disagreement, same.max_abs_logit_err), (1.0, None, 0.0));
        let other = of(&[[1.0, 2.0, 0.0], [0.0, 2.5, 2.0], [3.0, 1.0, 2.25], [0.5, 0.0, 0.0]]);
        let q = compare(&other, &expected, "another");
        assert_eq!((q.agreement_rate, q.first_disagreement, q.max_abs_logit_err), (0.75, Some(1), 1.5));
        let nan = compare(&of(&[[f32::NAN, 2.0, 0.0]]), &of(&[[1.0, 2.0, 0.0]]), "a NaN");
        assert_eq!(nan.max_abs_logit_err, f64::MAX);
    }
}
