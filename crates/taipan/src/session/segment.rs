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
    pub(super) async fn run_segment(
        &mut self,
        ids: &[u32],
        steps: &[(Run, Vec<BufferId>)],
    ) -> Result<Vec<Vec<u32>>> {
        let model = self.model.0.clone();
        let mut attempt = Attempt::new(self)?;
        attempt.session.stage_segment(ids)?;
        let read = attempt.session.memory.run_and_read(&model, steps, ids.len()).await?;
        attempt.before = None;
        Ok(read)
    }
}
