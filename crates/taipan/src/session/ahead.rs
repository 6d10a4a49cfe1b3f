//! Decoding on a GPU, one step ahead: while the host waits for a token, the device works on the next one already, so that
//! encoding and reading back cost no time.
//!
//! The rule for every stop: the state is that of exactly the delivered tokens. A token is delivered while the step behind it
//! runs, and that step consumes just this token, so there is nothing to undo. Only who gives up while a token is awaited
//! leaves a step that consumed it undelivered. For this case the state is copied every [`KEEP`] steps, put back, and the
//! tokens delivered since then are consumed again.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use taipan_gpu::{GpuError, Readback, Reading};

use super::{Run, Session};
use crate::error::Result;
use crate::model::{Backend, GpuModel, Inner};
use crate::run::gpu;

/// Steps between two copies of the state. A copy moves the state twice, a step at least as much; consuming so many tokens
/// again takes as long as decoding them.
const KEEP: u32 = 32;

/// A step that was submitted.
struct Flight {
    reading: Reading,
    /// Whether it consumed the token of the step before it; the first of a prompt only samples.
    consumes: bool,
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
    /// The step that is being waited for, by whether it consumes.
    awaited: Option<bool>,
    /// Readback buffers that are not in use.
    readbacks: Vec<Readback>,
    kept: Option<Kept>,
}

impl Ahead {
    /// Tokens that the device consumes beyond those that the session counts.
    fn extra(&self) -> u32 {
        let consumes = self.flights.iter().map(|f| f.consumes).chain(self.awaited);
        consumes.filter(|consumes| *consumes).count() as u32
    }

    fn readback(&mut self, m: &GpuModel) -> Readback {
        self.readbacks.pop().unwrap_or_else(|| m.gpu.readback(8))
    }
}

fn on_gpu(model: &Inner) -> Option<&GpuModel> {
    match &model.backend {
        Backend::Gpu(m) => Some(m),
        Backend::Cpu { .. } => None,
    }
}

impl Session {
    /// Consumes the pending token, if there is one, and samples the next. With `more` a GPU begins the step behind it.
    pub(super) async fn next_id(&mut self, more: bool) -> Result<u32> {
        let model = self.model.0.clone();
        let Some(m) = on_gpu(&model) else { return self.next_on_cpu(&model) };
        if self.ahead.flights.is_empty() {
            self.submit_first(&model, m)?;
        }
        // Where there is no room for one more, that is for the call to say that wants it.
        if more && self.ahead.flights.len() < 2 && self.make_room(self.ahead.extra() as usize + 1).is_ok() {
            self.submit_ahead(&model, m)?;
        }
        let flight = self.ahead.flights.pop_front().expect("one was submitted");
        self.ahead.awaited = Some(flight.consumes);
        let (words, readback) = m.gpu.finish(flight.reading).await?;
        if words[1] > 0 && m.programs.decode.gave_up().is_some() {
            return Err(GpuError::NotTogether.into());
        }
        self.ahead.awaited = None;
        self.ahead.readbacks.push(readback);
        if flight.consumes {
            self.count_consumed();
        }
        self.pending = Some(words[0]);
        self.pending_on_device = self.ahead.flights.is_empty();
        Ok(words[0])
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
        self.submit_step(model, m, consumes, false)
    }

    /// The step behind it, for which there is room; it consumes a token that only the device knows.
    fn submit_ahead(&mut self, model: &Arc<Inner>, m: &GpuModel) -> Result<()> {
        let consumed = self.consumed + self.ahead.extra();
        let due = self.ahead.kept.as_ref().is_none_or(|kept| consumed - kept.consumed >= KEEP);
        if due {
            let state = match self.ahead.kept.take() {
                Some(kept) => kept.state,
                None => Room::new(model, m)?,
            };
            self.ahead.kept = Some(Kept { state, consumed, ids: Vec::with_capacity(KEEP as usize) });
        }
        self.submit_step(model, m, true, due)
    }

    fn submit_step(&mut self, model: &Inner, m: &GpuModel, consumes: bool, keep: bool) -> Result<()> {
        let runs: &[Run] = if consumes { &[Run::Decode, Run::Sample] } else { &[Run::Sample] };
        let readback = self.ahead.readback(m);
        let before = m.gpu.counts();
        let kept = self.ahead.kept.as_ref().filter(|_| keep).and_then(|kept| kept.state.memory.as_ref());
        let reading = self.memory.step(m, runs, model.description.common.ids, readback, kept)?;
        if consumes {
            self.decoded.add(m.gpu.counts().since(before));
        }
        self.ahead.flights.push_back(Flight { reading, consumes });
        Ok(())
    }

    /// Makes the state that of the delivered tokens, whatever was submitted beyond them. Everything but generating on
    /// begins with this.
    pub(super) fn come_back(&mut self) -> Result<()> {
        let ahead = std::mem::take(&mut self.ahead);
        if ahead.flights.is_empty() && ahead.awaited.is_none() {
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
            (_, pending, kept) => self.replay(&kept.expect("two steps are never submitted without"), pending),
        }
    }

    fn replay(&mut self, kept: &Kept, pending: Option<u32>) -> Result<()> {
        let model = self.model.0.clone();
        let m = on_gpu(&model).expect("only a GPU runs ahead");
        self.memory.put_back(m, kept.state.memory.as_ref().expect("it is there until the end"))?;
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
        "model_type": "taipan", "vocab_size": 48, "hidden_size": 256, "layer_types": ["mamba2", "mamba2"],
        "mamba2": { "d_state": 128, "d_conv": 4, "expand": 2, "head_dim": 64, "n_groups": 1 }
    }"#;

    #[test]
    fn what_is_computed_behind_a_wait_in_vain_is_an_error() {
        let request = GpuRequest { together: Some(1), ..GpuRequest::default() };
        let device = block_on(Device::gpu(&request)).expect("a GPU, lavapipe will do");
        let options = LoadOptions { dtype: WeightDtype::F16, ..LoadOptions::default() };
        let files = ModelFiles::random(CONFIG, 3).expect("a valid config");
        let model = block_on(Model::from_bytes(files, &device, options)).expect("it loads");
        let mut session = model.session(SessionOptions::default()).expect("there is room");
        block_on(session.prefill(&[1, 2, 3])).expect("it reads");
        block_on(session.next_id(false)).expect("nobody has given up");
        let inner = model.0.clone();
        let m = on_gpu(&inner).expect("it is on a GPU");
        let (sync, word) = m.programs.decode.gave_up().expect("blocks in one dispatch");
        m.gpu.write(sync, 4 * word as u64, &[1u32]);
        let error = block_on(session.next_id(false)).expect_err("a workgroup has given up");
        assert_eq!((error.code(), error.to_string().contains("--persistent 0")), ("gpu", true), "{error}");
        block_on(session.prefill(&[4])).expect("the device still works");
        for error in [block_on(session.logits()).err(), block_on(session.save()).err()] {
            assert_eq!(error.expect("what there is are no numbers").code(), "gpu");
        }
    }
}
