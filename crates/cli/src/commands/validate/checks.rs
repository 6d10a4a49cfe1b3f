//! The comparisons made for one prompt.

use futures::StreamExt;
use serde::Serialize;
use taipan::{Device, GenerateOptions, Model, Result, Sampling, Session, SessionOptions};

use super::Against;
use super::case::Expected;
use super::compare::{differing, distance};
use crate::interrupt;

/// Largest errors allowed (spec/taipan.md, section 6).
#[derive(Clone, Copy, Serialize)]
pub(super) struct Tolerances {
    /// Logits and mixing weights against what is expected.
    results: f64,
    /// A divided prompt, or one decoded token by token, against the undivided one.
    division: f64,
}

impl Tolerances {
    pub(super) fn of(device: &Device, against: Against) -> Tolerances {
        let results = if device.is_cpu() && against == Against::Golden { 5e-4 } else { 2e-3 };
        Tolerances { results, division: 1e-3 }
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "Errors are |a − b| / (1 + |b|), at most {:e} (splits and decode {:e}); masks and greedy tokens are counted",
            self.results, self.division
        )
    }
}

/// Titles of the columns, in the order of [`Checks`].
pub(super) const NAMES: [&str; 6] = ["logits", "masks", "alpha", "greedy", "splits", "decode"];

/// A worst error and what it may be; `None` where the model or the prompt has nothing of the kind.
pub(super) type Checks = [Option<Check>; 6];

/// A worst error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Check {
    /// `null` in JSON where it is infinite: something could not be compared.
    worst: f64,
    tolerance: f64,
}

impl Check {
    fn passed(self) -> bool {
        self.worst <= self.tolerance
    }
}

/// What came of a prompt.
pub(super) struct Outcome {
    pub(super) case: String,
    pub(super) prompt: String,
    pub(super) checks: Checks,
}

impl Outcome {
    pub(super) fn passed(&self) -> bool {
        self.checks.iter().flatten().all(|check| check.passed())
    }

    pub(super) fn row(&self) -> Vec<String> {
        let cell = |check: &Option<Check>| match check {
            None => "–".to_owned(),
            Some(c) => {
                let worst = if c.tolerance == 0.0 { format!("{}", c.worst) } else { format!("{:.1e}", c.worst) };
                if c.passed() { worst } else { format!("! {worst}") }
            }
        };
        let mut row = vec![self.case.clone(), self.prompt.clone()];
        row.extend(self.checks.iter().map(cell));
        row.push(if self.passed() { "ok" } else { "MISMATCH" }.to_owned());
        row
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let mut checks = serde_json::Map::new();
        for (name, check) in NAMES.iter().zip(&self.checks) {
            let json =
                check.map(|c| serde_json::json!({ "worst": c.worst, "tolerance": c.tolerance, "passed": c.passed() }));
            checks.insert((*name).to_owned(), json.into());
        }
        serde_json::json!({ "case": self.case, "prompt": self.prompt, "checks": checks, "passed": self.passed() })
    }
}

/// Results of a whole prompt.
pub(super) struct Rows {
    pub(super) logits: Vec<f32>,
    pub(super) mask: Vec<Vec<u8>>,
    pub(super) alpha: Vec<Vec<f32>>,
}

/// Feeds ids and keeps everything that comes of them.
pub(super) async fn prefill_rows(session: &mut Session, ids: &[u32]) -> Result<Rows> {
    let mut logits = Vec::new();
    session
        .prefill_rows(ids, |rows| {
            logits.extend_from_slice(rows.logits);
            Ok(())
        })
        .await?;
    let gates = session.gates();
    Ok(Rows { logits, mask: gates.mask.clone(), alpha: gates.alpha.clone() })
}

/// Makes all comparisons; `None` if Ctrl-C was pressed before the last.
pub(super) async fn run(
    model: &Model,
    options: &SessionOptions,
    ids: &[u32],
    expected: &Expected,
    tolerances: &Tolerances,
) -> Result<Option<Checks>> {
    let mut session = model.session(options.clone())?;
    let whole = prefill_rows(&mut session, ids).await?;
    let greedy = greedy(&mut session, expected.greedy.len()).await?;
    let Some(splits) = splits(model, options, ids, &whole).await? else { return Ok(None) };
    let Some(decode) = decode(model, options, ids, &whole).await? else { return Ok(None) };

    let n = expected.comparable;
    let logits = distance(head(&whole.logits, n, ids.len()), head(&expected.logits, n, ids.len()));
    let check = |worst, tolerance| Some(Check { worst, tolerance });
    let has_gates = !expected.mask.is_empty() || !whole.mask.is_empty();
    let masks = differing(&heads(&whole.mask, n), &heads(&expected.mask, n));
    let alpha = distance(&heads(&whole.alpha, n), &heads(&expected.alpha, n));
    Ok(Some([
        check(logits, tolerances.results),
        check(masks, 0.0).filter(|_| has_gates),
        check(alpha, tolerances.results).filter(|_| has_gates),
        // Without a clear winner at the first step there is nothing to expect.
        check(differing(&greedy, &expected.greedy), 0.0).filter(|_| !expected.greedy.is_empty()),
        check(splits, tolerances.division).filter(|_| ids.len() > 1),
        check(decode, tolerances.division),
    ]))
}

/// The first `n` of `rows` equal parts.
fn head(values: &[f32], n: usize, rows: usize) -> &[f32] {
    &values[..values.len() / rows.max(1) * n]
}

/// The first `n` of every layer.
fn heads<T: Copy>(layers: &[Vec<T>], n: usize) -> Vec<T> {
    layers.iter().flat_map(|layer| layer[..n.min(layer.len())].iter().copied()).collect()
}

async fn greedy(session: &mut Session, n: usize) -> Result<Vec<u32>> {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let options = GenerateOptions { max_tokens: Some(n), sampling, stop: Vec::new(), ignore_eos: true };
    let mut ids = Vec::new();
    if n > 0 {
        let mut tokens = std::pin::pin!(session.generate(options));
        while let Some(token) = tokens.next().await {
            ids.push(token?.id);
        }
    }
    Ok(ids)
}

/// The prompt in two parts, divided at every odd position.
async fn splits(model: &Model, options: &SessionOptions, ids: &[u32], whole: &Rows) -> Result<Option<f64>> {
    let vocab = model.config().vocab_size;
    let mut worst = 0.0f64;
    for k in (1..ids.len()).step_by(2) {
        if interrupt::requested() {
            return Ok(None);
        }
        let mut session = model.session(options.clone())?;
        session.prefill(&ids[..k]).await?;
        let before = session.logits().await?;
        let rest = prefill_rows(&mut session, &ids[k..]).await?;
        worst = worst.max(distance(&before, &whole.logits[(k - 1) * vocab..k * vocab]));
        worst = worst.max(distance(&rest.logits, &whole.logits[k * vocab..]));
        for (rest, whole) in rest.mask.iter().zip(&whole.mask) {
            if differing(rest, &whole[k..]) > 0.0 {
                worst = f64::INFINITY;
            }
        }
    }
    Ok(Some(worst))
}

/// The prompt token by token, through the fused decode step.
async fn decode(model: &Model, options: &SessionOptions, ids: &[u32], whole: &Rows) -> Result<Option<f64>> {
    let vocab = model.config().vocab_size;
    let mut session = model.session(options.clone())?;
    let mut worst = 0.0f64;
    for (id, expected) in ids.iter().zip(whole.logits.chunks_exact(vocab)) {
        if interrupt::requested() {
            return Ok(None);
        }
        worst = worst.max(distance(&session.decode(*id).await?, expected));
    }
    Ok(Some(worst))
}
