//! Short forms of what tests do with sessions.

use futures::StreamExt;
use pollster::block_on;
use taipan::{GenerateOptions, Model, Sampling, Session, SessionOptions, Token};

use crate::saved::Saved;

/// The most probable token each time.
#[must_use]
pub fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

/// Everything the sampler has, switched on.
#[must_use]
pub fn random(seed: u64) -> Sampling {
    let (top_k, top_p, min_p) = (20, 0.97, 0.01);
    Sampling { seed, temperature: 1.1, top_k, top_p, min_p, repeat_penalty: 1.2, repeat_last_n: 16 }
}

/// Endless generation.
#[must_use]
pub fn endless(sampling: Sampling) -> GenerateOptions {
    GenerateOptions { sampling, ignore_eos: true, ..GenerateOptions::default() }
}

/// A new session that has read a prompt.
#[must_use]
pub fn prompted(model: &Model, ids: &[u32]) -> Session {
    let mut session = model.session(SessionOptions::default()).unwrap();
    block_on(session.prefill(ids)).unwrap();
    session
}

/// Takes up to `n` tokens from a generation, then drops the stream.
#[must_use]
pub fn take(session: &mut Session, options: &GenerateOptions, n: usize) -> Vec<Token> {
    block_on(session.generate(options.clone()).take(n).map(Result::unwrap).collect())
}

/// Ids of tokens.
#[must_use]
pub fn ids_of(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|t| t.id).collect()
}

/// Text of tokens, as delivered.
#[must_use]
pub fn text_of(tokens: &[Token]) -> String {
    tokens.iter().map(|t| &t.text[..]).collect()
}

/// Logits of every id, by prefill.
#[must_use]
pub fn prefill_logits(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    let each = |rows: taipan::Rows<'_>| {
        logits.extend_from_slice(rows.logits);
        Ok(())
    };
    block_on(session.prefill_rows(ids, each)).unwrap();
    logits
}

/// Logits of every id, by decode.
#[must_use]
pub fn decode_logits(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    ids.iter().flat_map(|id| block_on(session.decode(*id)).unwrap()).collect()
}

/// The saved form.
#[must_use]
pub fn save(session: &mut Session) -> Saved {
    Saved(block_on(session.save()).unwrap())
}

/// A new session from a saved form.
#[must_use]
pub fn restored(model: &Model, bytes: &[u8]) -> Session {
    let mut session = model.session(SessionOptions::default()).unwrap();
    block_on(session.restore(bytes)).unwrap();
    session
}

/// The saved form after the last delivered token has gone through the layers: two sessions that have delivered the same
/// tokens agree in it, whether or not one of them was interrupted while its next token was being made.
#[must_use]
pub fn settled(session: &mut Session) -> Saved {
    block_on(session.logits()).unwrap();
    save(session)
}
