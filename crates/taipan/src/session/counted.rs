//! What a decoded token costs on a GPU, by the device's own counters.

use std::future::poll_fn;
use std::pin::pin;

use taipan_gpu::{Counts, Gpu};

/// Sums over decoded tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoded {
    tokens: u64,
    counts: Counts,
}

impl Decoded {
    pub(super) fn add(&mut self, counts: Counts) {
        self.tokens += 1;
        self.counts += counts;
    }

    /// Dispatches and submissions of one token, rounded up: one too many anywhere must show.
    pub(super) fn per_token(&self) -> (usize, usize) {
        let mean = |sum: u64| if self.tokens == 0 { 0 } else { sum.div_ceil(self.tokens) as usize };
        (mean(self.counts.dispatches), mean(self.counts.submits))
    }
}

/// Runs a future and counts what it asks of the device. Counting poll by poll leaves out the sessions that run while it
/// waits; only threads that use the device at the same instant are counted in.
pub(super) async fn counted<T>(gpu: &Gpu, future: impl Future<Output = T>) -> (T, Counts) {
    let mut future = pin!(future);
    let mut counts = Counts::default();
    let value = poll_fn(|cx| {
        let before = gpu.counts();
        let poll = future.as_mut().poll(cx);
        counts += gpu.counts().since(before);
        poll
    })
    .await;
    (value, counts)
}
