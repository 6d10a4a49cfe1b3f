//! What a model makes of a prompt, here or elsewhere, and how far two of these are apart.

use futures::StreamExt;
use serde::Serialize;
use taipan::{GenerateOptions, Sampling, Session};

/// What logits of a GPU may be off by, as `|a − b| / (1 + |b|)`.
const LOGITS: f64 = 2e-3;

/// How a model went; the same fields as a kernel's.
#[derive(Debug, Serialize)]
pub(crate) struct ModelReport {
    pub(crate) kernel: &'static str,
    pub(crate) shape: String,
    pub(crate) seed: u64,
    pub(crate) worst: f64,
    pub(crate) tolerance: f64,
    pub(crate) ok: bool,
    pub(crate) detail: Option<String>,
}

impl ModelReport {
    /// What is wrong, in words.
    pub(crate) fn complaint(&self) -> Option<String> {
        let detail = self.detail.as_deref()?;
        Some(format!("{} ({}), seed {}: {detail}", self.kernel, self.shape, self.seed))
    }
}

/// What a model makes of a prompt.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Of every token of the prompt.
    pub(crate) logits: Vec<f32>,
    /// Of the prompt, one layer after another.
    pub(crate) alpha: Vec<f32>,
    pub(crate) mask: Vec<u8>,
    pub(crate) greedy: Vec<u32>,
    /// Logits after one token more, always the same one; empty where it is not known.
    pub(crate) decoded: Vec<f32>,
}

impl Outcome {
    /// Reads a prompt and makes tokens after it.
    pub(crate) async fn of(mut session: Session, prompt: &[u32], made: usize) -> taipan::Result<Self> {
        let mut logits = Vec::new();
        let keep = |rows: taipan::Rows<'_>| {
            logits.extend_from_slice(rows.logits);
            Ok(())
        };
        session.prefill_rows(prompt, keep).await?;
        let (alpha, mask) = (session.gates().alpha.concat(), session.gates().mask.concat());
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let options =
            GenerateOptions { max_tokens: Some(made), sampling, ignore_eos: true, ..GenerateOptions::default() };
        let mut greedy = Vec::new();
        {
            let mut tokens = std::pin::pin!(session.generate(options));
            while let Some(token) = tokens.next().await {
                greedy.push(token?.id);
            }
        }
        let decoded = session.decode(5).await?;
        Ok(Self { logits, alpha, mask, greedy, decoded })
    }

    /// Compared with what it should be: all numbers, every decision, the greedy tokens.
    pub(crate) fn against(&self, expected: &Self, kernel: &'static str, shape: String, seed: u64) -> ModelReport {
        let (gates, tokens) = (self.mask == expected.mask, self.greedy == expected.greedy);
        let mut worst = distance(&self.logits, &expected.logits);
        if !(self.alpha.is_empty() && expected.alpha.is_empty()) {
            worst = worst.max(distance(&self.alpha, &expected.alpha));
        }
        if gates && tokens && !expected.decoded.is_empty() {
            worst = worst.max(distance(&self.decoded, &expected.decoded));
        }
        let detail = match (gates, tokens) {
            (false, _) => Some("other tokens attend"),
            (_, false) => Some("the greedy tokens are others"),
            _ => (worst > LOGITS).then_some("numbers differ"),
        };
        let detail = detail.map(str::to_owned);
        ModelReport { kernel, shape, seed, worst, tolerance: LOGITS, ok: detail.is_none(), detail }
    }
}

/// Largest `|a − b| / (1 + |b|)`; huge where something cannot be compared, because JSON has no infinity.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() || found.is_empty() {
        return f64::MAX;
    }
    let one = |(a, b): (&f32, &f32)| {
        let e = f64::from((a - b).abs()) / (1.0 + f64::from(b.abs()));
        if e.is_finite() { e } else { f64::MAX }
    };
    found.iter().zip(expected).map(one).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compared_is_far_apart() {
        assert_eq!(distance(&[1.0, 3.0], &[1.0, 1.0]), 1.0);
        for (a, b) in [(&[][..], &[][..]), (&[1.0][..], &[1.0, 2.0][..]), (&[f32::NAN][..], &[1.0][..])] {
            assert_eq!(distance(a, b), f64::MAX);
        }
    }
}
