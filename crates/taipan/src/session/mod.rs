//! A session: one text with its recurrent state, fed by prefill and decode, continued by generate.

mod ahead;
mod bound;
mod counted;
mod generate;
mod memory;
mod pace;
mod save;
mod segment;
mod trace;

pub use bound::AttentionBound;
pub use generate::{Finish, GenerateOptions, Token};

use serde::Serialize;
use taipan_kernels::{Attention, control, selection};
use taipan_reference::sal;

use crate::error::{Error, Result};
use crate::model::{Backend, Inner, Model};
use crate::run::cpu::Data;
use crate::tokenizer::TextDecoder;
use ahead::Ahead;
use counted::Decoded;
use memory::{Memory, Run};

/// What a session is made with.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Hard bound on the tokens that attend; none by default, so that a model computes what it was trained to compute.
    pub attention_bound: Option<AttentionBound>,
    /// Most tokens of a text, for a model with full attention, whose memory grows with it; by default as many as the
    /// device can hold. Other models have no use for it.
    pub context: Option<usize>,
}

/// One text in progress.
///
/// Its memory is the same at a thousand tokens and at a million, but for keys and values of full attention, where a model
/// has that. Methods take the session by `&mut`; sessions of one model
/// may be used in any order, interleaved step by step.
pub struct Session {
    model: Model,
    memory: Memory,
    bound: Option<AttentionBound>,
    context: usize,
    /// Tokens that went through the layers.
    consumed: u32,
    /// The last delivered token, where it has not gone through the layers yet.
    pending: Option<u32>,
    /// Whether `pending` is in the device's `ids[0]` already.
    pending_on_device: bool,
    /// What the device's TOKENS word holds.
    tokens_word: usize,
    /// Text of the tokens generated so far that is not final: part of a character, or of a stop string.
    decoder: TextDecoder,
    held: String,
    trace: GateTrace,
    tracing: bool,
    /// What the tokens of `generate` cost.
    decoded: Decoded,
    /// Steps of `generate` that are not delivered.
    ahead: Ahead,
}

/// What each selective attention layer decided about the tokens of a [`Session::prefill_rows`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateTrace {
    /// Selected (1) or not (0): `[layer][token]`.
    pub mask: Vec<Vec<u8>>,
    /// Mixing weight α: `[layer][token]`.
    pub alpha: Vec<Vec<f32>>,
}

/// Logits of a run of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Index of the first token in the ids given.
    pub first: usize,
    /// `[tokens, vocab]`.
    pub logits: &'a [f32],
}

/// Numbers about a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Tokens consumed.
    pub tokens: u64,
    /// Per selective attention layer.
    pub sal: Vec<SalStats>,
    /// Memory in bytes.
    pub bytes: Bytes,
    /// Dispatches of one token decoded by [`Session::generate`], sampling included: counted as they were encoded, the mean
    /// of all such tokens of this session rounded up. 0 on the CPU and before the second token.
    pub decode_dispatches: usize,
    /// Submissions of one such token, counted in the same way.
    pub decode_submits: usize,
}

/// What one selective attention layer has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SalStats {
    /// Tokens that attended.
    pub selected: u64,
    /// Tokens that the gate picked and the bound refused.
    pub refused: u64,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Weights, shared by all sessions of the model.
    pub weights: u64,
    /// This session's state.
    pub state: u64,
    /// Scratch space: of the model on a GPU, of the session on the CPU.
    pub scratch: u64,
}

impl Session {
    pub(crate) fn new(model: Model, options: SessionOptions) -> Result<Self> {
        let memory = Memory::new(&model.0)?;
        let mut session = Self {
            model,
            memory,
            bound: options.attention_bound,
            context: options.context.unwrap_or(Attention::EVERYTHING as usize),
            consumed: 0,
            pending: None,
            pending_on_device: false,
            tokens_word: 0,
            decoder: TextDecoder::default(),
            held: String::new(),
            trace: GateTrace::default(),
            tracing: false,
            decoded: Decoded::default(),
            ahead: Ahead::default(),
        };
        session.write_buckets();
        Ok(session)
    }

    /// Credits start full; without a bound the rate is 0, which switches the bucket off.
    fn write_buckets(&mut self) {
        let mut words = [0; sal::LEN];
        if let Some(bound) = self.bound {
            words[sal::CREDIT] = bound.burst;
            words[sal::RATE] = bound.rate;
            words[sal::BURST] = bound.burst;
        }
        let model = self.model.0.clone();
        for layer in model.description.sals() {
            self.memory.write(&model, layer.sal, 0, &words);
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Tokens of the text so far: those consumed, and a delivered one that is still to be consumed.
    #[must_use]
    pub fn position(&self) -> usize {
        self.consumed as usize + usize::from(self.pending.is_some())
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.model.config().vocab_size;
        match ids.iter().find(|id| **id as usize >= vocab) {
            Some(id) => Err(Error::TokenOutOfRange { id: *id, vocab }),
            None => Ok(()),
        }
    }

    /// Feeds a prompt, or more of the text. Runs in segments: memory does not grow with the prompt.
    ///
    /// The future may be dropped while it runs. Whole segments are then consumed, or some of the tokens that run one by one
    /// (see [`crate::LoadOptions::recurrent`]); [`Session::position`] tells how many tokens that is.
    ///
    /// # Errors
    /// `EmptyPrompt`, `TokenOutOfRange` (nothing is consumed then), or a device error.
    pub async fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.check(ids)?;
        self.prefill_iter(ids.iter().copied()).await.map(|_| ())
    }

    /// Feeds ids as they come; returns how many there were.
    ///
    /// # Errors
    /// As [`Session::prefill`]; segments before the one with a bad id are consumed.
    pub async fn prefill_iter(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<usize> {
        self.come_back()?;
        let mut ids = ids.into_iter();
        let size = self.model.0.description.shape.segment;
        let mut total = 0;
        let mut segment: Vec<u32> = Vec::with_capacity(size);
        let waiting = self.pending;
        loop {
            segment.clear();
            if total == 0 {
                segment.extend(waiting);
            }
            let room = size.saturating_sub(segment.len()).max(1);
            let before = segment.len();
            segment.extend(ids.by_ref().take(room));
            let new = segment.len() - before;
            if new == 0 {
                return if total == 0 { Err(Error::EmptyPrompt) } else { Ok(total) };
            }
            self.check(&segment)?;
            if total == 0 {
                self.forget_text();
            }
            total += new;
            // With segments of one token the pending one goes alone.
            for part in segment.chunks(size) {
                self.feed(part).await?;
            }
            // Let the device keep up: its queue would otherwise grow with the prompt.
            if self.model.0.device.as_gpu().is_some() {
                self.memory.settle(&self.model.0).await?;
            }
        }
    }

    /// New input: what was left of generated text is not continued by it.
    fn forget_text(&mut self) {
        self.decoder = TextDecoder::default();
        self.held.clear();
    }

    /// Tokens there will be after `n` more, for which there is room.
    fn make_room(&mut self, n: usize) -> Result<u32> {
        let consumed = u32::try_from(n).ok().and_then(|n| self.consumed.checked_add(n));
        let consumed =
            consumed.ok_or_else(|| Error::Unsupported { what: format!("a text of more than {} tokens", u32::MAX) })?;
        self.reserve(consumed)?;
        Ok(consumed)
    }

    /// Room for so many tokens, where each takes some.
    fn reserve(&mut self, tokens: u32) -> Result<()> {
        let model = self.model.0.clone();
        let tokens = tokens as usize;
        if model.description.caches().next().is_some() && tokens > self.context {
            return Err(Error::ContextFull { tokens, context: self.context });
        }
        self.memory.reserve(&model, tokens)
    }

    fn set_tokens(&mut self, n: usize) {
        if self.tokens_word != n {
            let model = self.model.0.clone();
            self.memory.write(&model, model.description.common.control, control::TOKENS, &[n as u32]);
            self.tokens_word = n;
        }
    }

    /// Puts a segment where the prefill program reads it. From here on it counts as consumed.
    fn stage_segment(&mut self, ids: &[u32]) -> Result<()> {
        let consumed = self.make_room(ids.len())?;
        let model = self.model.0.clone();
        self.set_tokens(ids.len());
        self.memory.write(&model, model.description.common.ids, 0, ids);
        self.consumed = consumed;
        self.pending = None;
        self.pending_on_device = false;
        Ok(())
    }

    /// Feeds ids and hands out the logits of every one of them, in tiles, in order.
    ///
    /// # Errors
    /// As [`Session::prefill`], and those of `each`.
    pub async fn prefill_rows(&mut self, ids: &[u32], mut each: impl FnMut(Rows<'_>) -> Result<()>) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.check(ids)?;
        self.come_back()?;
        if let Some(id) = self.pending {
            self.consume(id)?;
        }
        self.forget_text();
        let model = self.model.0.clone();
        let d = &model.description;
        let layers = d.sals().count();
        self.trace = self.no_gates();
        let vocab = model.config.vocab_size;
        // All tiles of a segment are read back together: with a large vocabulary, no more of them than a matrix product
        // needs to be efficient.
        let size = d.shape.segment.min(d.shape.logit_rows.max(64));
        for (i, segment) in ids.chunks(size).enumerate() {
            let tiles = segment.len().div_ceil(d.shape.logit_rows);
            let mut steps = vec![(Run::Prefill, trace::selections(&model)), (Run::FinalNorm, Vec::new())];
            steps.extend((0..tiles).map(|tile| (Run::LogitTile(tile), vec![d.scratch.logits.buffer])));
            let read = self.run_segment(segment, &steps).await?;
            let (gates, logits) = read.split_at(layers);
            self.record_gates(&model, gates, segment.len());
            for (tile, rows) in segment.chunks(d.shape.logit_rows).enumerate() {
                let logits: &[f32] = bytemuck::cast_slice(&logits[tile]);
                let first = i * size + tile * d.shape.logit_rows;
                each(Rows { first, logits: &logits[..rows.len() * vocab] })?;
            }
        }
        Ok(())
    }

    fn record_gates(&mut self, model: &Inner, gates: &[Vec<u32>], n: usize) {
        let capacity = model.description.shape.segment;
        for (i, words) in gates.iter().enumerate() {
            self.trace.alpha[i].extend(words[selection::alphas()..][..n].iter().map(|b| f32::from_bits(*b)));
            self.trace.mask[i].extend(words[selection::masks(capacity)..][..n].iter().map(|m| *m as u8));
        }
    }

    /// What the gates decided about the tokens of the last [`Session::prefill_rows`], or since
    /// [`Session::trace_gates`].
    #[must_use]
    pub fn gates(&self) -> &GateTrace {
        &self.trace
    }

    /// Logits `[vocab]` after the last token of the text.
    ///
    /// # Errors
    /// `EmptyPrompt` if there is no token yet, or a device error.
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        if self.position() == 0 {
            return Err(Error::EmptyPrompt);
        }
        self.come_back()?;
        if let Some(id) = self.pending {
            self.consume(id)?;
        }
        let model = self.model.0.clone();
        let words = self.memory.read_dense(&model, model.description.common.logits.buffer).await?;
        Ok(bytemuck::cast_vec(words))
    }

    /// Feeds one token through the fused decode step; returns the logits `[vocab]` after it.
    ///
    /// # Errors
    /// `TokenOutOfRange`, or a device error.
    pub async fn decode(&mut self, id: u32) -> Result<Vec<f32>> {
        self.check(&[id])?;
        self.come_back()?;
        if let Some(pending) = self.pending {
            self.consume(pending)?;
        }
        self.forget_text();
        self.consume(id)?;
        self.logits().await
    }

    /// Puts one token where the decode program reads it. From here on it counts as consumed.
    fn stage(&mut self, id: u32) -> Result<()> {
        let consumed = self.make_room(1)?;
        let model = self.model.0.clone();
        self.set_tokens(1);
        if !(self.pending_on_device && self.pending == Some(id)) {
            self.memory.write(&model, model.description.common.ids, 0, &[id]);
        }
        self.consumed = consumed;
        self.pending = None;
        self.pending_on_device = false;
        Ok(())
    }

    fn consume(&mut self, id: u32) -> Result<()> {
        self.stage(id)?;
        let model = self.model.0.clone();
        self.memory.run(&model, &[Run::Decode])
    }

    /// Another session with the same state; both go on independently.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_model.rs")); }
    /// # use example::*;
    /// # pollster::block_on(async {
    /// # let model = example_model().await?;
    /// let mut one = model.session(Default::default())?;
    /// one.prefill(&[7, 8, 9]).await?; // a long prompt, read once
    /// let mut two = one.fork().await?;
    ///
    /// let first = one.decode(10).await?;
    /// assert_ne!(two.decode(11).await?, first);
    /// assert_eq!((one.position(), two.position()), (4, 4));
    /// # Ok::<_, taipan::Error>(())
    /// # })?;
    /// # Ok::<_, taipan::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device cannot hold another session's state.
    pub async fn fork(&mut self) -> Result<Self> {
        self.come_back()?;
        let memory = self.memory.fork(&self.model.0)?;
        Ok(Self {
            model: self.model.clone(),
            memory,
            bound: self.bound,
            context: self.context,
            consumed: self.consumed,
            pending: self.pending,
            pending_on_device: self.pending_on_device,
            tokens_word: self.tokens_word,
            decoder: self.decoder.clone(),
            held: self.held.clone(),
            trace: self.trace.clone(),
            tracing: self.tracing,
            decoded: Decoded::default(),
            ahead: Ahead::default(),
        })
    }

    /// Numbers about the session.
    ///
    /// # Errors
    /// A device error: the counters are read back.
    pub async fn stats(&mut self) -> Result<Stats> {
        self.catch_up().await?;
        let model = self.model.0.clone();
        let d = &model.description;
        let mut layers = Vec::new();
        for layer in d.sals() {
            let words = self.memory.read_dense(&model, layer.sal).await?;
            layers.push(SalStats { selected: words[sal::SELECTED].into(), refused: words[sal::REFUSED].into() });
        }
        let (decode_dispatches, decode_submits) = self.decoded.per_token();
        Ok(Stats { tokens: self.consumed.into(), sal: layers, bytes: self.bytes(), decode_dispatches, decode_submits })
    }

    /// Memory as it is allocated, not as it was planned.
    fn bytes(&self) -> Bytes {
        let model = &self.model.0;
        match (&model.backend, &self.memory) {
            (Backend::Cpu { weights, .. }, Memory::Cpu(m)) => {
                let bytes = |list: &[Data]| list.iter().map(Data::bytes).sum();
                Bytes { weights: weights.bytes(), state: bytes(&m.state), scratch: bytes(&m.scratch) }
            }
            (Backend::Gpu(m), Memory::Gpu(state)) => {
                Bytes { weights: m.weight_bytes, state: state.bytes(), scratch: m.scratch_bytes }
            }
            _ => unreachable!("a session's memory is of its model's device"),
        }
    }
}
