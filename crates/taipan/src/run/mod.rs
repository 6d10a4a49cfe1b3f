//! Executors of lists of calls: the CPU device and the GPU device. Nothing else in the crate knows which one runs.

pub mod cpu;
pub mod dense;
pub mod gpu;
mod rows;
mod split;
mod ssd;
mod threads;

pub use split::Split;
