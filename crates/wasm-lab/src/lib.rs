//! What the page shows besides text: every kernel against the CPU's loops, small models against golden numbers, and the native benchmark's rows. A module of its
//! own, because few visitors need it, and without a tokenizer, because neither knows texts.

mod bench;
mod models;
mod validate;

pub use bench::Bench;
pub use models::{MADE, MODELS, Spec, prompt};
pub use taipan_wasm::{Device, Sha256, list_adapters, on_panic, shards};
pub use validate::Validation;
