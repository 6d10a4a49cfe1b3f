//! What a row measures, and one repetition of it.

use futures::StreamExt;
use taipan::{GenerateOptions, Model, Result, Session, SessionOptions};
use web_time::Instant;

use crate::draw::ids;

/// A row: a prompt or a continuation, on a session that holds `depth` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// Prompt tokens; then `gen` is 0.
    pub prompt: usize,
    /// Tokens to decode; then `prompt` is 0.
    pub generate: usize,
    /// Tokens before the clock starts.
    pub depth: usize,
}

impl Test {
    /// The rows of lists of prompts, continuations and depths, in llama-bench's order.
    #[must_use]
    pub fn all(prompts: &[usize], generate: &[usize], depths: &[usize]) -> Vec<Self> {
        let at = |depth: &usize| {
            let depth = *depth;
            let pp = prompts.iter().filter(|n| **n > 0).map(move |n| Self { prompt: *n, generate: 0, depth });
            pp.chain(generate.iter().filter(|n| **n > 0).map(move |n| Self { prompt: 0, generate: *n, depth }))
        };
        depths.iter().flat_map(at).collect()
    }

    /// As llama-bench writes it: `pp512`, `tg128 @ d4096`.
    #[must_use]
    pub fn name(&self) -> String {
        let name = if self.prompt > 0 { format!("pp{}", self.prompt) } else { format!("tg{}", self.generate) };
        if self.depth > 0 { format!("{name} @ d{}", self.depth) } else { name }
    }

    /// Tokens that count.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.prompt + self.generate
    }
}

/// Nanoseconds of one repetition.
#[derive(Clone, Debug, Default)]
pub struct Repetition {
    /// Of all counted tokens.
    pub ns: f64,
    /// Of each decoded token.
    pub tokens_ns: Vec<f64>,
    /// From an empty session to its first token; only at depth 0.
    pub first_token_ns: Option<f64>,
    /// The session's memory.
    pub held: Option<u64>,
    /// Submissions that decoding took, on a GPU.
    pub submits: Option<u64>,
}

/// A session with `depth` tokens in it; forks of it are where repetitions start.
///
/// # Errors
/// Device errors.
pub async fn prepare(model: &Model, test: &Test) -> Result<Option<Session>> {
    if test.depth == 0 {
        return Ok(None);
    }
    let mut session = model.session(SessionOptions::default())?;
    session.prefill(&ids(model.config(), test.depth, 0)).await?;
    Ok(Some(session))
}

/// Runs a test once.
///
/// # Errors
/// Device errors.
pub async fn repeat(model: &Model, test: &Test, start: Option<&mut Session>) -> Result<Repetition> {
    let empty = start.is_none();
    let mut session = match start {
        Some(session) => session.fork().await?,
        None => model.session(SessionOptions::default())?,
    };
    settle(model).await?;
    let mut result = Repetition::default();
    if test.prompt > 0 {
        let prompt = ids(model.config(), test.prompt, test.depth);
        let clock = Instant::now();
        session.prefill(&prompt).await?;
        settle(model).await?;
        result.ns = clock.elapsed().as_nanos() as f64;
        if empty {
            let sampled = decode(&mut session, 1).await?;
            result.first_token_ns = Some(result.ns + sampled[0]);
        }
        return Ok(result);
    }
    let mut first = None;
    if empty {
        // Something has to be there to continue.
        let clock = Instant::now();
        session.prefill(&ids(model.config(), 1, 0)).await?;
        settle(model).await?;
        first = Some(clock.elapsed().as_nanos() as f64);
    }
    let counts = || model.device().as_gpu().map(|gpu| gpu.counts());
    let (before, clock) = (counts(), Instant::now());
    result.tokens_ns = decode(&mut session, test.generate).await?;
    result.ns = clock.elapsed().as_nanos() as f64;
    result.submits = counts().zip(before).map(|(after, before)| after.since(before).submits);
    result.first_token_ns = first.map(|ns| ns + result.tokens_ns[0]);
    Ok(result)
}

async fn settle(model: &Model) -> Result<()> {
    match model.device().as_gpu() {
        Some(gpu) => Ok(gpu.settle().await?),
        None => Ok(()),
    }
}

/// Tokens drawn as by default, on the device, and read back; nanoseconds between them.
async fn decode(session: &mut Session, n: usize) -> Result<Vec<f64>> {
    let options = GenerateOptions { max_tokens: Some(n), ignore_eos: true, ..GenerateOptions::default() };
    let mut stream = std::pin::pin!(session.generate(options));
    let mut times = Vec::with_capacity(n);
    let mut clock = Instant::now();
    while let Some(token) = stream.next().await {
        token?;
        let now = Instant::now();
        times.push((now - clock).as_nanos() as f64);
        clock = now;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_llama_benchs_order_and_names() {
        let rows = Test::all(&[128, 0], &[32], &[0, 4096]);
        let names: Vec<String> = rows.iter().map(Test::name).collect();
        assert_eq!(names, ["pp128", "tg32", "pp128 @ d4096", "tg32 @ d4096"]);
        assert_eq!(rows[3].tokens(), 32);
    }
}
