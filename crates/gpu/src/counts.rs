//! What a device was really asked for: submissions, dispatches, and the memory that its buffers hold now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Gpu;

/// Submissions and dispatches of a device since it was opened, whoever made them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Submissions to the queue, those that only let uploads go included.
    pub submits: u64,
    /// Dispatches encoded; those left out because there was nothing to do are not among them.
    pub dispatches: u64,
}

impl Counts {
    /// What was added since an earlier count of the same device.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { submits: self.submits - earlier.submits, dispatches: self.dispatches - earlier.dispatches }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.submits += other.submits;
        self.dispatches += other.dispatches;
    }
}

/// The counters behind [`Counts`]. Nothing is ordered by them, so relaxed additions do.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    submits: AtomicU64,
    dispatches: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn submitted(&self) {
        self.submits.fetch_add(1, Relaxed);
    }

    pub(crate) fn dispatched(&self) {
        self.dispatches.fetch_add(1, Relaxed);
    }
}

/// A living buffer; dropping it gives its memory back and takes it off the count. Submitted work that uses it is done
/// first. A browser would otherwise keep the memory until it collects garbage, of which it sees nothing on the GPU.
#[derive(Debug)]
pub(crate) struct Allocation {
    counters: Arc<Counters>,
    bytes: u64,
    #[cfg(target_arch = "wasm32")]
    raw: wgpu::Buffer,
}

impl Allocation {
    pub(crate) fn new(counters: &Arc<Counters>, raw: &wgpu::Buffer) -> Self {
        let bytes = raw.size();
        counters.bytes.fetch_add(bytes, Relaxed);
        Self {
            counters: Arc::clone(counters),
            bytes,
            #[cfg(target_arch = "wasm32")]
            raw: raw.clone(),
        }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.counters.bytes.fetch_sub(self.bytes, Relaxed);
        #[cfg(target_arch = "wasm32")]
        self.raw.destroy();
    }
}

impl Gpu {
    /// What was asked of the device so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counters = &self.counters;
        Counts { submits: counters.submits.load(Relaxed), dispatches: counters.dispatches.load(Relaxed) }
    }

    /// Bytes of all buffers of this device that are alive.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.counters.bytes.load(Relaxed)
    }
}
