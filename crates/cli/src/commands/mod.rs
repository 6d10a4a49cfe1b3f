//! The commands, one a file.

mod bench;
mod devices;
mod generate;
mod info;
mod logits;
mod perplexity;
mod pull;
mod quantize;
mod store;
mod validate;

use taipan::Device;

use crate::failure::Result;
use crate::settings::{Settings, Task};

/// A prompt runs in pieces of so many tokens. The CPU gives way to Ctrl-C within a piece; a GPU does a piece as a whole,
/// which takes a software adapter seconds where a piece is long. Both are multiples of the library's chunks, and the
/// same in every run, so that the same prompt gives the same result.
fn piece(device: &Device) -> usize {
    if device.adapter().is_some_and(|adapter| adapter.software) { 64 } else { 512 }
}

/// Does what was asked for.
///
/// # Errors
/// Whatever stopped it.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let Settings { target, task } = settings;
    match task {
        Task::Generate(task) => generate::run(&target, task).await,
        Task::Validate(task) => validate::run(&target, task).await,
        Task::Logits(task) => logits::run(&target, task).await,
        Task::Perplexity(task) => perplexity::run(&target, task).await,
        Task::Quantize(task) => quantize::run(task).await,
        Task::Pull(task) => pull::run(&target, task).await,
        Task::Ls { json } => store::list(json),
        Task::Rm(task) => store::remove(&task),
        Task::Info(task) => info::run(&target, task).await,
        Task::Bench { args, devices, yes } => bench::run(&target, *args, &devices, yes).await,
        Task::Devices { json } => devices::run(&target, json).await,
    }
}
