//! A segment of a prompt: consumed as a whole or, given up half-way, not at all.

use taipan_kernels::BufferId;

use super::{Run, Session};
use crate::error::Result;
use crate::run::cpu;

/// What a session was before a segment.
struct Before {
    state: Vec<cpu::Data>,
    consumed: u32,
    pending: Option<u32>,
    pending_on_device: bool,
    tokens_word: usize,
}

/// A segment that is being run. Dropped before it is done, it puts the session back. Only the CPU can be interrupted in
/// the middle; what a GPU was given, it does.
struct Attempt<'a> {
    session: &'a mut Session,
    before: Option<Before>,
}

impl<'a> Attempt<'a> {
    fn new(session: &'a mut Session) -> Result<Self> {
        let state = session.memory.copy_state()?;
        let before = state.map(|state| Before {
            state,
            consumed: session.consumed,
            pending: session.pending,
            pending_on_device: session.pending_on_device,
            tokens_word: session.tokens_word,
        });
        Ok(Self { session, before })
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(before) = self.before.take() else { return };
        let session = &mut *self.session;
        session.memory.put_state(before.state);
        session.consumed = before.consumed;
        session.pending = before.pending;
        session.pending_on_device = before.pending_on_device;
        session.tokens_word = before.tokens_word;
    }
}

impl Session {
    /// One segment through the layers and whatever comes after them; returns what the steps ask to read.
    pub(super) async fn run_segment(&mut self, ids: &[u32], steps: &[(Run, Vec<BufferId>)]) -> Result<Vec<Vec<u32>>> {
        let model = self.model.0.clone();
        let mut attempt = Attempt::new(self)?;
        attempt.session.stage_segment(ids)?;
        let read = attempt.session.memory.run_and_read(&model, steps, ids.len()).await?;
        attempt.before = None;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::pin::pin;
    use std::task::{Context, Poll};

    use futures::task::noop_waker_ref;

    use crate::{Device, LoadOptions, Model, ModelFiles, SessionOptions};

    /// Polls so often, or until it is done.
    fn poll<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(noop_waker_ref());
        (0..times).find_map(|_| match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    }

    fn all<T>(future: impl Future<Output = T>) -> T {
        poll(future, usize::MAX).expect("it ends")
    }

    fn files() -> ModelFiles {
        let file = |name: &str| std::fs::read(format!("{}/../cli/model/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let weights = vec![("model.safetensors".to_owned(), Cow::Owned(file("model.safetensors")))];
        ModelFiles { config: Cow::Owned(file("config.json")), weights, tokenizer: None }
    }

    #[test]
    fn loading_can_be_given_up() {
        let device = Device::cpu();
        assert!(poll(Model::from_bytes(files(), &device, LoadOptions::default()), 1).is_none());
    }

    #[test]
    fn a_prompt_given_up_on_the_cpu_is_fed_up_to_the_end_of_a_segment() {
        let options = LoadOptions { segment: Some(8), recurrent: Some(3), ..LoadOptions::default() };
        let model = all(Model::from_bytes(files(), &Device::cpu(), options)).unwrap();
        let ids: Vec<u32> = (0..20).map(|i| i * 97 % 4000).collect();
        let mut whole = model.session(SessionOptions::default()).unwrap();
        all(whole.prefill(&ids)).unwrap();
        let expected = all(whole.save()).unwrap();
        let mut seen = Vec::new();
        for times in (1..).step_by(37) {
            let mut session = model.session(SessionOptions::default()).unwrap();
            if poll(session.prefill(&ids), times).is_some() {
                break;
            }
            let position = session.position();
            assert!(position % 8 == 0, "given up after {times} steps at {position}");
            seen.push(position);
            if position > 0 {
                let mut fed = model.session(SessionOptions::default()).unwrap();
                all(fed.prefill(&ids[..position])).unwrap();
                assert!(all(session.save()).unwrap() == all(fed.save()).unwrap(), "after {times} steps at {position}");
            }
            all(session.prefill(&ids[position..])).unwrap();
            assert!(all(session.save()).unwrap() == expected, "given up after {times} steps, then fed on");
        }
        seen.dedup();
        assert_eq!(seen, [0, 8, 16], "every segment was interrupted");
    }
}
