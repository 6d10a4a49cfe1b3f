//! What a decoded token costs on a GPU, by the device's own counters.

use taipan_gpu::Counts;

/// Sums over decoded tokens. Only threads that use the device at the same instant are counted in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoded {
    tokens: u64,
    counts: Counts,
}

impl Decoded {
    /// Adds what so many tokens took together.
    pub(super) fn add(&mut self, tokens: u32, counts: Counts) {
        self.tokens += u64::from(tokens);
        self.counts += counts;
    }

    /// Dispatches and submissions of one token, rounded up: one too many anywhere must show.
    pub(super) fn per_token(&self) -> (usize, usize) {
        let mean = |sum: u64| if self.tokens == 0 { 0 } else { sum.div_ceil(self.tokens) as usize };
        (mean(self.counts.dispatches), mean(self.counts.submits))
    }
}
