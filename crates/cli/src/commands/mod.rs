//! The commands, one a file.

mod bench;
mod devices;
mod generate;
mod info;
mod logits;
mod perplexity;
mod validate;

use crate::failure::Result;
use crate::settings::{Settings, Task};

/// A prompt runs in pieces of so many tokens, so that Ctrl-C is heard between them. It is a multiple of the library's own
/// segments, so cutting the prompt here changes no bit of the result.
const PIECE: usize = 512;

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
        Task::Info(task) => info::run(&target, task).await,
        Task::Bench { args, devices } => bench::run(&target, &args, &devices).await,
        Task::Devices { json } => devices::run(&target, json).await,
    }
}
