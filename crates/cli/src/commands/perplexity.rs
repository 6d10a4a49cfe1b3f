//! `taipan perplexity`: how well a model predicts a text.

use std::fs::File;
use std::time::Instant;

use serde::Serialize;
use taipan::{Error, Model, Session};

use super::piece;
use crate::failure::{Failure, Result};
use crate::progress::{Progress, Unit};
use crate::settings::{Perplexity, Target};
use crate::target::{Opened, model_name, open_model};
use crate::text::TokenReader;
use crate::{interrupt, output};

/// Prints the result; after Ctrl-C, that of the text read so far.
pub(super) async fn run(target: &Target, task: Perplexity) -> Result<()> {
    interrupt::install();
    let opened = open_model(target, &task.model).await?;
    let tokenizer = opened.model.tokenizer().ok_or(Error::NoTokenizer)?;
    let (reader, file_bytes) = TokenReader::open(&task.file, tokenizer)?;
    let mut feed = Feed { reader, ids: Vec::new(), at: 0, piece_bytes: 0 };
    let start = Instant::now();
    let score = measure(&opened, task.context, &mut feed, file_bytes).await?;
    let report = Report::new(&task, &opened.model, &score, &feed, start)?;
    if task.json {
        output::json(&report)?;
    } else {
        output::line(&report.table())?;
    }
    if score.interrupted { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Reads the text window by window.
async fn measure(opened: &Opened, context: Option<usize>, feed: &mut Feed<'_>, file_bytes: u64) -> Result<Score> {
    let progress = Progress::new("reading", Unit::Bytes);
    let size = piece(opened.model.device());
    let mut score = Score::default();
    loop {
        let mut session = opened.model.session(opened.options.clone())?;
        let mut room = context.unwrap_or(usize::MAX);
        let mut at_end = false;
        while room > 0 && !at_end {
            let (ids, next) = match feed.next(room.min(size)) {
                Err(Failure::Interrupted) => {
                    score.interrupted = true;
                    at_end = true;
                    break;
                }
                other => other?,
            };
            room -= ids.len();
            at_end = next.is_none();
            if ids.is_empty() {
                break;
            }
            // The first token of the next window is not predicted from this one.
            let added = interrupt::unless(score.add(&mut session, &ids, next.filter(|_| room > 0))).await;
            score.interrupted = added.is_none();
            at_end |= score.interrupted;
            added.transpose()?;
            progress.set(feed.bytes_done(), file_bytes);
        }
        score.count_gates(&mut session).await?;
        if at_end {
            return Ok(score);
        }
    }
}

/// The ids of the text, a few at a time.
struct Feed<'a> {
    reader: TokenReader<'a, File>,
    ids: Vec<u32>,
    at: usize,
    /// Bytes of text that `ids` stand for.
    piece_bytes: u64,
}

impl Feed<'_> {
    /// Up to `n` ids, and the one after them. There are fewer than `n` only at the end of the text.
    fn next(&mut self, n: usize) -> Result<(Vec<u32>, Option<u32>)> {
        while self.ids.len() - self.at <= n {
            let before = self.reader.bytes_encoded();
            let Some(piece) = self.reader.next_piece()? else { break };
            self.ids.drain(..self.at);
            self.ids.extend(piece);
            self.at = 0;
            self.piece_bytes = self.reader.bytes_encoded() - before;
        }
        let end = self.ids.len().min(self.at.saturating_add(n));
        let ids = self.ids[self.at..end].to_vec();
        self.at = end;
        Ok((ids, self.ids.get(end).copied()))
    }

    /// How much of the text was handed out, about.
    fn bytes_done(&self) -> u64 {
        let left = (self.ids.len() - self.at) as f64 / self.ids.len().max(1) as f64;
        self.reader.bytes_encoded().saturating_sub((left * self.piece_bytes as f64) as u64)
    }
}

/// Sums over the text so far.
#[derive(Default)]
struct Score {
    /// Sum of −ln p.
    nats: f64,
    predicted: u64,
    tokens: u64,
    /// Per layer.
    selected: Vec<u64>,
    refused: Vec<u64>,
    interrupted: bool,
}

impl Score {
    /// Feeds ids; each is predicted from those before it, and `next` from all of them. Given up half-way, it has counted
    /// what the session consumed.
    async fn add(&mut self, session: &mut Session, ids: &[u32], next: Option<u32>) -> Result<()> {
        let vocab = session.model().config().vocab_size;
        let count = |rows: taipan::Rows<'_>| {
            for (i, logits) in rows.logits.chunks_exact(vocab).enumerate() {
                self.tokens += 1;
                let Some(target) = ids.get(rows.first + i + 1).copied().or(next) else { continue };
                let logit = *logits.get(target as usize).ok_or(Error::TokenOutOfRange { id: target, vocab })?;
                self.nats += log_sum_exp(logits) - f64::from(logit);
                self.predicted += 1;
            }
            Ok(())
        };
        Ok(session.prefill_rows(ids, count).await?)
    }

    async fn count_gates(&mut self, session: &mut Session) -> Result<()> {
        let layers = session.stats().await?.sal;
        self.selected.resize(layers.len(), 0);
        self.refused.resize(layers.len(), 0);
        for (i, layer) in layers.iter().enumerate() {
            self.selected[i] += layer.selected;
            self.refused[i] += layer.refused;
        }
        Ok(())
    }

    fn share(&self, counts: &[u64]) -> Vec<f64> {
        counts.iter().map(|n| *n as f64 / self.tokens.max(1) as f64).collect()
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| (f64::from(*l) - f64::from(max)).exp()).sum();
    f64::from(max) + sum.ln()
}

/// The result.
#[derive(Serialize)]
struct Report {
    model: String,
    device: String,
    file: String,
    /// Tokens read.
    tokens: u64,
    /// Tokens predicted: all but the first of each window.
    predicted: u64,
    context: Option<usize>,
    nll_mean: f64,
    perplexity: f64,
    /// Unknown where the text was not read to its end.
    bits_per_byte: Option<f64>,
    /// Per selective-attention layer.
    selected_fraction: Vec<f64>,
    /// Share of tokens that the bound kept from attending.
    refused_fraction: Vec<f64>,
    seconds: f64,
    interrupted: bool,
}

impl Report {
    fn new(task: &Perplexity, model: &Model, score: &Score, feed: &Feed<'_>, start: Instant) -> Result<Report> {
        let nll_mean = score.nats / score.predicted as f64;
        if score.predicted == 0 && score.interrupted {
            return Err(Failure::Interrupted);
        }
        if score.predicted == 0 {
            let message =
                format!("{} has {} tokens, of which none can be predicted", task.file.display(), score.tokens);
            return Err(Failure::Input { message, hint: "give a text of at least two tokens".to_owned() });
        }
        if !nll_mean.is_finite() {
            let message = "the model gives probabilities that are not numbers".to_owned();
            return Err(Failure::Input {
                message,
                hint: "compare with `--device cpu` and with `--dtype f32`".to_owned(),
            });
        }
        let bits = nll_mean * score.tokens as f64 / std::f64::consts::LN_2;
        Ok(Report {
            model: model_name(task.model.dir.as_ref()),
            device: model.device().description(),
            file: task.file.display().to_string(),
            tokens: score.tokens,
            predicted: score.predicted,
            context: task.context,
            nll_mean,
            perplexity: nll_mean.exp(),
            bits_per_byte: (!score.interrupted).then(|| bits / feed.reader.bytes_read() as f64),
            selected_fraction: score.share(&score.selected),
            refused_fraction: score.share(&score.refused),
            seconds: start.elapsed().as_secs_f64(),
            interrupted: score.interrupted,
        })
    }

    fn table(&self) -> String {
        let share = |shares: &[f64]| {
            let shares: Vec<String> = shares.iter().map(|s| format!("{:.1} %", 100.0 * s)).collect();
            shares.join(", ")
        };
        let rate = self.tokens as f64 / self.seconds.max(1e-9);
        let mut rows = vec![
            ("device", self.device.clone()),
            ("tokens", format!("{} read, {} predicted", output::grouped(self.tokens), output::grouped(self.predicted))),
            ("speed", format!("{rate:.1} tokens/s")),
            ("nats per token", format!("{:.5}", self.nll_mean)),
            ("perplexity", format!("{:.4}", self.perplexity)),
        ];
        if let Some(bits) = self.bits_per_byte {
            rows.push(("bits per byte", format!("{bits:.4}")));
        }
        if !self.selected_fraction.is_empty() {
            rows.push(("selected", share(&self.selected_fraction)));
        }
        if self.refused_fraction.iter().any(|s| *s > 0.0) {
            rows.push(("refused", share(&self.refused_fraction)));
        }
        if self.interrupted {
            rows.push(("note", "interrupted; this is of the text read so far".to_owned()));
        }
        output::pairs(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_survives_large_logits() {
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + 2.0f64.ln())).abs() < 1e-9);
        assert!((log_sum_exp(&[0.0, -500.0, 0.0, 0.0]) - 3.0f64.ln()).abs() < 1e-9);
        assert!(!log_sum_exp(&[f32::NAN, 0.0]).is_finite());
    }
}
