//! What can go wrong between us and a graphics driver.

/// Error of the GPU layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter matches the request.
    #[error("no suitable GPU adapter: wanted {wanted}, found {}", list(.found))]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// Names of the adapters that exist.
        found: Vec<String>,
    },
    /// The adapter offers less than something needs.
    #[error("{adapter}: limit {limit} is {available}, but {what} needs {needed}")]
    LimitTooSmall {
        /// Adapter name.
        adapter: String,
        /// WebGPU name of the limit.
        limit: &'static str,
        /// What does not fit.
        what: String,
        /// Needed value.
        needed: u64,
        /// Value of the adapter.
        available: u64,
    },
    /// The device was lost: driver reset, unplugged, or destroyed.
    #[error("the GPU device was lost: {reason}")]
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// The device ran out of memory.
    #[error("the GPU is out of memory: {message}")]
    OutOfMemory {
        /// The driver's words.
        message: String,
    },
    /// Workgroups that wait for each other waited in vain; what was computed since is no number.
    #[error("workgroups that wait for each other did not run at the same time; --persistent 0 does without them")]
    NotTogether,
    /// The driver refused something that should have been valid.
    #[error("GPU error: {message}")]
    Driver {
        /// The driver's words.
        message: String,
    },
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}
