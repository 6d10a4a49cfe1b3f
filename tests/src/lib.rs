//! What the tests of this package share: devices, golden cases, tiny models, comparison.

pub mod archive;
pub mod compare;
pub mod device;
pub mod drive;
pub mod fuzz;
pub mod gguf;
pub mod golden;
pub mod greedy;
pub mod mutate;
pub mod oracle;
pub mod pieces;
pub mod saved;
pub mod tiny;
