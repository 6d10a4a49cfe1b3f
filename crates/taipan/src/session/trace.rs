//! Watching the gates: what each selective attention layer decides about every token, as a text goes on.

use taipan_gpu::give_way;
use taipan_kernels::BufferId;

use super::{GateTrace, Run, Session};
use crate::error::Result;
use crate::model::Inner;

/// Buffers that hold the decisions about the tokens of a segment, in the order of the layers.
pub(super) fn selections(model: &Inner) -> Vec<BufferId> {
    model.description.sals().map(|layer| layer.selection).collect()
}

impl Session {
    /// Records what the gates decide from here on, or stops doing so; what it does already goes on. While it records, [`Session::gates`] has the tokens
    /// that went through the layers since it was last called: the prompt's, then one for each token generated, which is
    /// the one before it (a delivered token goes through the layers when the next one is made).
    ///
    /// It costs a readback per segment of a prompt, and per generated token a small one for each layer.
    ///
    /// ```
    /// use std::pin::pin;
    ///
    /// use futures::TryStreamExt;
    ///
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_model.rs")); }
    /// # use example::*;
    /// # pollster::block_on(async {
    /// # let model = example_model().await?;
    /// let mut session = model.session(Default::default())?;
    /// session.trace_gates(true);
    /// session.prefill(&[7, 8, 9]).await?;
    /// let gates = session.take_gates();
    /// assert_eq!((gates.mask[0].len(), gates.alpha[0].len()), (3, 3));
    ///
    /// let options = taipan::GenerateOptions { max_tokens: Some(2), ..Default::default() };
    /// {
    ///     let mut tokens = pin!(session.generate(options));
    ///     while tokens.try_next().await?.is_some() {}
    /// }
    /// assert_eq!(session.take_gates().mask[0].len(), 1); // the second token is still to go through
    /// session.catch_up().await?;
    /// assert_eq!(session.take_gates().mask[0].len(), 1); // now it has
    /// # Ok::<_, taipan::Error>(())
    /// # })?;
    /// # Ok::<_, taipan::Error>(())
    /// ```
    pub fn trace_gates(&mut self, on: bool) {
        if self.tracing != on {
            self.tracing = on;
            self.trace = self.no_gates();
        }
    }

    /// Sends the last delivered token through the layers now, rather than with the next one: then the gates have decided about
    /// the whole text. However a text came to its end, its session is the same after this. (At the end of all positions the
    /// token stays.)
    ///
    /// # Errors
    /// A device error.
    pub async fn catch_up(&mut self) -> Result<()> {
        self.come_back()?;
        match self.pending {
            Some(id) if self.consumed < u32::MAX => self.consume_in_view(id).await,
            _ => Ok(()),
        }
    }

    async fn consume_in_view(&mut self, id: u32) -> Result<()> {
        match self.tracing {
            true => self.consume_traced(id).await,
            false => self.consume(id),
        }
    }

    async fn consume_traced(&mut self, id: u32) -> Result<()> {
        let model = self.model.0.clone();
        self.stage(id)?;
        let gates = self.run_watched(&model, &[(Run::Decode, selections(&model))]).await?;
        self.record_gates(&model, &gates, 1);
        Ok(())
    }

    /// What was recorded since the last call; nothing is kept.
    pub fn take_gates(&mut self) -> GateTrace {
        let empty = self.no_gates();
        std::mem::replace(&mut self.trace, empty)
    }

    pub(super) fn no_gates(&self) -> GateTrace {
        let layers = self.model.0.description.sals().count();
        GateTrace { mask: vec![Vec::new(); layers], alpha: vec![Vec::new(); layers] }
    }

    /// A prompt's segment, recorded if that is wanted; one token after another where that is faster.
    pub(super) async fn feed(&mut self, ids: &[u32]) -> Result<()> {
        let model = self.model.0.clone();
        if ids.len() <= model.recurrent {
            // All of them or none, as in a segment.
            self.make_room(ids.len())?;
            for id in ids {
                self.consume_in_view(*id).await?;
                if model.device.is_cpu() {
                    give_way().await;
                }
            }
            return Ok(());
        }
        let watched = if self.tracing { selections(&model) } else { Vec::new() };
        let read = self.run_segment(ids, &[(Run::Prefill, watched)]).await?;
        if self.tracing {
            self.record_gates(&model, &read, ids.len());
        }
        Ok(())
    }

    /// The next token, with the decisions about the one before it: one submission, so that no other session comes between.
    /// Dropped while it waits, the pending token counts as consumed and the sampled one as never made.
    pub(super) async fn next_id_traced(&mut self) -> Result<u32> {
        let model = self.model.0.clone();
        let ids = model.description.common.ids;
        // Nothing runs ahead of a token that is watched.
        self.come_back()?;
        let pending = self.pending;
        let mut steps = vec![(Run::Sample, vec![ids])];
        match pending {
            Some(id) => {
                self.stage(id)?;
                steps.insert(0, (Run::Decode, selections(&model)));
            }
            None => self.set_tokens(1),
        }
        let read = self.run_watched(&model, &steps).await?;
        let (gates, sampled) = read.split_at(read.len() - 1);
        if pending.is_some() {
            self.record_gates(&model, gates, 1);
        }
        let id = sampled[0][0];
        self.pending = Some(id);
        self.pending_on_device = true;
        Ok(id)
    }

    async fn run_watched(&mut self, model: &Inner, steps: &[(Run, Vec<BufferId>)]) -> Result<Vec<Vec<u32>>> {
        match model.device.is_cpu() {
            true => self.run_at_once(model, steps).await,
            false => self.memory.run_and_read(model, steps, 1).await,
        }
    }

    /// On the CPU: without giving way, so that a token is never left half-way through the layers.
    async fn run_at_once(&mut self, model: &Inner, steps: &[(Run, Vec<BufferId>)]) -> Result<Vec<Vec<u32>>> {
        let mut read = Vec::new();
        for (run, ids) in steps {
            self.memory.run(model, &[*run])?;
            for id in ids {
                read.push(self.memory.read_dense(model, *id).await?);
            }
        }
        Ok(read)
    }
}
