//! Runs the program and looks at what it prints, where, and its exit code.
//!
//! Tests that need a GPU ask for one with `--device gpu` and fail where there is none, software adapters included.

mod cases;
mod chat;
mod common;
mod devices;
mod generate;
mod gguf;
#[allow(unreachable_pub, dead_code, reason = "it is shared with the tests of the library")]
#[path = "../../../../tests/src/gguf.rs"]
mod gguf_file;
mod golden;
mod hub;
#[path = "../../../hub/tests/hub/server.rs"]
mod hub_server;
mod interrupt;
mod logits;
mod memory;
mod perplexity;
mod quantize;
mod talk;
mod terminal;
mod usage;
mod validate;
