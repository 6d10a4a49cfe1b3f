//! Decoding on a GPU, ahead of the host: while it waits for a token, the device works on the next one already, so that
//! encoding and reading back cost no time. Where steps are short, several go in one submission: between two an NVIDIA H200 is
//! idle for 20 µs, a quarter of what a model of 5 M parameters takes for a token.
//!
//! The rule for every stop: the state is that of exactly the delivered tokens. Steps that consumed more than those are undone:
//! the state is copied every so many steps, put back, and the tokens delivered since then are consumed again. Where only the
//! step behind a delivered token has run, that consumed just this token, and there is nothing to undo.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use taipan_gpu::{GpuError, Readback, Reading};

use super::memory::Steps;
use super::{Run, Session, pace::Pace};
use crate::error::Result;
use crate::model::{Backend, GpuModel, Inner};
use crate::run::gpu;

/// Steps between two copies of the state, at least. A copy moves the state twice, a step at least as much; consuming so many
/// tokens again takes as long as decoding them.
const KEEP: u32 = 32;

/// Submissions between two copies, at least: a tenth of a second where several steps go together.
const KEEP_SUBMISSIONS: u32 = 16;

/// Tokens that the device has consumed since then at most.
pub(super) const UNDONE: u32 = (KEEP_SUBMISSIONS + 1) * Pace::MOST;

/// Steps that were submitted together.
struct Flight {
    reading: Reading,
    /// Tokens that come back.
    steps: u32,
    /// Tokens that they consume, each that of the step before it; the first step of a prompt only samples.
    consumes: u32,
}

/// Room for a copy of the state: the model's, which a driver took milliseconds to make, or one more where that is taken.
struct Room {
    /// There until the end.
    memory: Option<gpu::Memory>,
    model: Arc<Inner>,
}

impl Room {
    fn new(model: &Arc<Inner>, m: &GpuModel) -> Result<Self> {
        let spare = m.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let memory = spare.unwrap_or_else(|| gpu::Memory::new(&m.gpu, &model.description.state));
        m.gpu.check()?;
        Ok(Self { memory: Some(memory), model: Arc::clone(model) })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(m) = on_gpu(&self.model) {
            *m.spare.lock().unwrap_or_else(PoisonError::into_inner) = self.memory.take();
        }
    }
}

/// The state as it was.
struct Kept {
    state: Room,
    consumed: u32,
    /// Tokens consumed since then that were delivered.
    ids: Vec<u32>,
}

/// What the device was asked for and the session has not delivered.
#[derive(Default)]
pub(super) struct Ahead {
    /// At most two, the oldest first.
    flights: VecDeque<Flight>,
    /// The tokens that are consumed by what is being waited for.
    awaited: Option<u32>,
    /// Tokens that have come back and are not delivered. But for the last of them the device has consumed them.
    ready: VecDeque<u32>,
    pace: Pace,
    /// Readback buffers that are not in use.
    readbacks: Vec<Readback>,
    kept: Option<Kept>,
}

impl Ahead {
    /// Tokens that the device consumes beyond those that the session counts.
    fn extra(&self) -> u32 {
        self.flights.iter().map(|f| f.consumes).chain(self.awaited).sum::<u32>() + self.ready.len() as u32
    }

    /// Steps to submit next, if `more` tokens are wanted beyond the one that is delivered next.
    fn steps(&self, more: usize) -> u32 {
        let coming: u32 = self.flights.iter().map(|f| f.steps).sum();
        let wanted = more.saturating_sub(coming as usize - 1);
        self.pace.steps().min(u32::try_from(wanted).unwrap_or(u32::MAX))
    }

    fn readback(&mut self, m: &GpuModel) -> Readback {
        self.readbacks.pop().unwrap_or_else(|| m.gpu.readback(4 * u64::from(Pace::MOST + 1)))
    }
}

fn on_gpu(model: &Inner) -> Option<&GpuModel> {
    match &model.backend {
        Backend::Gpu(m) => Some(m),
        Backend::Cpu { .. } => None,
    }
}

impl Session {
    /// Consumes the pending token, if there is one, and samples the next. A GPU begins the steps behind it, for at most `more`
    /// tokens.
    pub(super) async fn next_id(&mut self, more: usize) -> Result<u32> {
        let model = self.model.0.clone();
        let Some(m) = on_gpu(&model) else { return self.next_on_cpu(&model) };
        if let Some(id) = self.ahead.ready.pop_front() {
            return Ok(self.delivered(id));
        }
        if self.ahead.flights.is_empty() {
            self.submit_first(&model, m)?;
        }
        if self.ahead.flights.len() < 2 {
            self.submit_ahead(&model, m, more)?;
        }
        let Flight { reading, steps, consumes } = self.ahead.flights.pop_front().expect("one was submitted");
        self.ahead.awaited = Some(consumes);
        let (mut words, readback) = m.gpu.finish(reading).await?;
        let gave_up = words.pop().expect("it comes last");
        if gave_up > 0 && m.programs.decode.gave_up().is_some() {
            return Err(GpuError::NotTogether.into());
        }
        // A CPU that stands in for a GPU is not idle between two submissions.
        if !m.gpu.report().software {
            self.ahead.pace.finished(steps, taipan_gpu::now_ms());
        }
        self.ahead.awaited = None;
        self.ahead.readbacks.push(readback);
        self.ahead.ready.extend(&words[1..]);
        if consumes == 0 {
            self.pending = Some(words[0]);
            self.pending_on_device = self.ahead.flights.is_empty();
            return Ok(words[0]);
        }
        Ok(self.delivered(words[0]))
    }

    /// The device has consumed the pending token, and this is the one after it.
    fn delivered(&mut self, id: u32) -> u32 {
        self.count_consumed();
        self.pending = Some(id);
        self.pending_on_device = self.ahead.extra() == 0;
        id
    }

    /// The device has consumed the pending token.
    fn count_consumed(&mut self) {
        let id = self.pending.take();
        if let Some(kept) = self.ahead.kept.as_mut().filter(|kept| self.consumed >= kept.consumed) {
            kept.ids.extend(id);
        }
        self.consumed += 1;
    }

    fn next_on_cpu(&mut self, model: &Inner) -> Result<u32> {
        match self.pending {
            Some(id) => {
                self.stage(id)?;
                self.memory.run(model, &[Run::Decode, Run::Sample])?;
            }
            None => {
                self.set_tokens(1);
                self.memory.run(model, &[Run::Sample])?;
            }
        }
        let id = self.memory.word(model.description.common.ids);
        self.pending = Some(id);
        self.pending_on_device = true;
        Ok(id)
    }

    /// The step whose token is delivered next. What it consumes is known.
    fn submit_first(&mut self, model: &Inner, m: &GpuModel) -> Result<()> {
        let consumes = self.pending.is_some();
        self.make_room(usize::from(consumes))?;
        self.set_tokens(1);
        if let Some(id) = self.pending.filter(|_| !self.pending_on_device) {
            self.memory.write(model, model.description.common.ids, 0, &[id]);
        }
        self.submit_steps(model, m, 1, u32::from(consumes), false)
    }

    /// Steps behind it, as far as there is room; they consume tokens that only the device knows.
    fn submit_ahead(&mut self, model: &Arc<Inner>, m: &GpuModel, more: usize) -> Result<()> {
        let extra = self.ahead.extra();
        let consumed = self.consumed + extra;
        let every = KEEP.max(KEEP_SUBMISSIONS * self.ahead.pace.steps());
        let mut due = self.ahead.kept.as_ref().is_none_or(|kept| consumed - kept.consumed >= every);
        let mut steps = self.ahead.steps(more);
        if due && extra > 1 {
            // A copy must not be of a state that a stop has to undo: it follows a step of its own.
            (due, steps) = (false, steps.min(1));
        }
        // Where there is no room for one more, that is for the call to say that wants it.
        while steps > 0 && self.make_room((extra + steps) as usize).is_err() {
            steps /= 2;
        }
        if steps == 0 {
            return Ok(());
        }
        if due {
            let state = match self.ahead.kept.take() {
                Some(kept) => kept.state,
                None => Room::new(model, m)?,
            };
            self.ahead.kept = Some(Kept { state, consumed, ids: Vec::with_capacity(UNDONE as usize) });
        }
        self.submit_steps(model, m, steps, steps, due)
    }

    /// Submits steps that consume `consumes` tokens: as many as they are, or none.
    fn submit_steps(&mut self, model: &Inner, m: &GpuModel, steps: u32, consumes: u32, keep: bool) -> Result<()> {
        let run = Steps { steps, consumes, consumed: self.consumed + self.ahead.extra() };
        let readback = self.ahead.readback(m);
        let before = m.gpu.counts();
        let kept = self.ahead.kept.as_ref().filter(|_| keep).and_then(|kept| kept.state.memory.as_ref());
        let since = self.ahead.kept.as_ref().map_or(0, |kept| run.consumed + consumes - kept.consumed);
        debug_assert!(since <= UNDONE, "{since} tokens are more than can be undone");
        let reading = self.memory.step(m, &model.description, &run, readback, kept)?;
        if consumes > 0 {
            self.decoded.add(consumes, m.gpu.counts().since(before));
        }
        self.ahead.flights.push_back(Flight { reading, steps, consumes });
        Ok(())
    }

    /// Makes the state that of the delivered tokens, whatever was submitted beyond them. Everything but generating on
    /// begins with this.
    pub(super) fn come_back(&mut self) -> Result<()> {
        let ahead = std::mem::take(&mut self.ahead);
        if ahead.flights.is_empty() && ahead.awaited.is_none() && ahead.ready.is_empty() {
            return Ok(());
        }
        self.pending_on_device = false;
        let extra = ahead.extra();
        match (extra, self.pending, ahead.kept) {
            (0, ..) => Ok(()),
            (1, Some(_), _) => {
                self.consumed += 1;
                self.pending = None;
                Ok(())
            }
            (_, pending, kept) => self.replay(&kept.expect("no more than one step is submitted without"), pending),
        }
    }

    fn replay(&mut self, kept: &Kept, pending: Option<u32>) -> Result<()> {
        let model = self.model.0.clone();
        let m = on_gpu(&model).expect("only a GPU runs ahead");
        let state = kept.state.memory.as_ref().expect("it is there until the end");
        self.memory.put_back(m, &model.description, state, kept.consumed)?;
        // The copy holds what was there when it was made.
        self.tokens_word = usize::MAX;
        let pending = pending.filter(|_| self.consumed >= kept.consumed);
        self.consumed = kept.consumed;
        self.pending = None;
        for id in kept.ids.iter().copied().chain(pending) {
            self.consume(id)?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use pollster::block_on;
    use taipan_gpu::GpuRequest;

    use super::*;
    use crate::{Device, LoadOptions, Model, ModelFiles, SessionOptions, WeightDtype};

    const CONFIG: &str = r#"{
        "model_type": "taipan", "vocab_size": 48, "hidden_size": 256,
        "layer_types": ["mamba2", "mamba2", "selective_attention"],
        "mamba2": { "d_state": 128, "d_conv": 4, "expand": 2, "head_dim": 64, "n_groups": 1 },
        "selective_attention": { "num_heads": 2, "head_dim": 16, "window": 20, "intermediate_size": 64 }
    }"#;

    fn loaded(request: &GpuRequest) -> Model {
        let device = block_on(Device::gpu(request)).expect("a GPU, lavapipe will do");
        let options = LoadOptions { dtype: WeightDtype::F16, ..LoadOptions::default() };
        let files = ModelFiles::random(CONFIG, 3).expect("a valid config");
        block_on(Model::from_bytes(files, &device, options)).expect("it loads")
    }

    fn prompted(model: &Model) -> Session {
        let mut session = model.session(SessionOptions::default()).expect("there is room");
        block_on(session.prefill(&[1, 2, 3])).expect("it reads");
        session
    }

    /// What is said and thought after each of so many tokens, of which `together` at a time are asked for.
    fn said(model: &Model, together: u32, tokens: usize) -> (Vec<u32>, Vec<f32>, usize) {
        let mut session = prompted(model);
        let ids = (0..tokens).map(|_| {
            session.ahead.pace = Pace::of(together);
            block_on(session.next_id(usize::MAX)).expect("a token")
        });
        let ids = ids.collect();
        let logits = block_on(session.logits()).expect("logits");
        (ids, logits, session.position())
    }

    #[test]
    fn after_any_stop_the_state_is_that_of_the_delivered_tokens() {
        let model = loaded(&GpuRequest::default());
        for tokens in [1, 2, 3, 4, 6, 11, 33, 34, 35, 36, 41, 43, 70] {
            let alone = said(&model, 1, tokens);
            assert_eq!(alone.2, 3 + tokens);
            for together in [2, 3, 8] {
                assert_eq!(said(&model, together, tokens), alone, "{tokens} tokens, {together} together");
            }
        }
    }

    #[test]
    fn no_more_is_asked_for_than_is_wanted() {
        let model = loaded(&GpuRequest::default());
        let mut session = prompted(&model);
        for more in (0..7).rev() {
            session.ahead.pace = Pace::of(4);
            block_on(session.next_id(more)).expect("a token");
            assert!(session.ahead.extra() as usize <= more + 1, "{more} more are wanted");
        }
        assert_eq!((session.consumed, session.ahead.extra(), session.position()), (9, 0, 10));
    }

    #[test]
    fn what_is_computed_behind_a_wait_in_vain_is_an_error() {
        let model = loaded(&GpuRequest { together: Some(1), ..GpuRequest::default() });
        let mut session = prompted(&model);
        block_on(session.next_id(0)).expect("nobody has given up");
        let inner = model.0.clone();
        let m = on_gpu(&inner).expect("it is on a GPU");
        let (sync, word) = m.programs.decode.gave_up().expect("blocks in one dispatch");
        m.gpu.write(sync, 4 * word as u64, &[1u32]);
        let error = block_on(session.next_id(0)).expect_err("a workgroup has given up");
        assert_eq!((error.code(), error.to_string().contains("--persistent 0")), ("gpu", true), "{error}");
        block_on(session.prefill(&[4])).expect("the device still works");
        for error in [block_on(session.logits()).err(), block_on(session.save()).err()] {
            assert_eq!(error.expect("what there is are no numbers").code(), "gpu");
        }
    }
}
