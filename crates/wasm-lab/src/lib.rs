//! What the page shows besides text: every kernel and small models against the CPU's loops, golden cases, and the native
//! benchmark's rows. A module of its own, because few visitors need it, and without a tokenizer, because none of it knows texts.

mod bench;
mod golden;
mod models;
mod outcome;
mod validate;

pub use bench::Bench;
pub use taipan_wasm::{Device, Sha256, list_adapters, on_panic, shards};
pub use validate::Validation;
