//! Executors of lists of calls: the CPU device and the GPU device. Nothing else in the crate knows which one runs.

pub mod cpu;
pub mod dense;
pub mod gpu;
#[cfg(not(target_arch = "wasm32"))]
mod rows;
mod split;
#[cfg(not(target_arch = "wasm32"))]
mod ssd;
mod threads;

pub use split::Split;
