//! The library as JavaScript sees it: types in and out, and nothing else. Adapters, devices, a model whose weights come in
//! ranges, sessions that generate text token by token.
//!
//! Everything here runs on the thread that calls it and never waits: what takes time is a promise. Two things need care
//! on the other side. A panic (a bug of ours, or of a driver's) ends the program inside, so the promises under way would
//! stay pending for ever: [`on_panic`] tells the caller, which must then settle them and use nothing of this module
//! again. And a session does one thing at a time: a call while another is under way throws.
//!
//! `taipan-wasm-lab` is built on this without texts: kernel cases and the benchmark, a module of its own.

#[cfg(feature = "text")]
mod cancel;
mod convert;
mod device;
#[cfg(feature = "text")]
mod estimate;
mod files;
#[cfg(feature = "text")]
mod model;
#[cfg(feature = "text")]
mod options;
mod panic;
#[cfg(feature = "text")]
mod session;
mod tools;

use wasm_bindgen::prelude::*;

pub use convert::{from_js, invalid, to_js, to_js_error};
pub use device::{Device, list_adapters};
#[cfg(feature = "text")]
pub use estimate::estimate;
pub use files::{Files, dtype_of};
#[cfg(feature = "text")]
pub use model::Model;
pub use panic::on_panic;
#[cfg(feature = "text")]
pub use session::Session;
pub use tools::{Sha256, shards};

/// What a call throws or its promise is rejected with: an `Error` with `code` and, where there is one, `hint`.
pub type Result<T, E = JsValue> = std::result::Result<T, E>;

#[wasm_bindgen(start)]
fn start() {
    panic::install();
}
