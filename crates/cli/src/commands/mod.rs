//! The commands, one a file.

mod bench;
mod chat;
mod devices;
mod generate;
mod info;
mod logits;
mod perplexity;
mod pull;
mod quantize;
mod store;
mod validate;

use futures::StreamExt;
use taipan::{Device, Finish, GenerateOptions, Session, Token};

pub(crate) use chat::Wishes;

use crate::failure::Result;
use crate::interrupt;
use crate::progress::{Progress, Unit};
use crate::settings::{Settings, Task};

/// A prompt runs in pieces of so many tokens. The CPU gives way to Ctrl-C within a piece; a GPU does a piece as a whole,
/// which takes a software adapter seconds where a piece is long. Both are multiples of the library's chunks, and the
/// same in every run, so that the same prompt gives the same result.
fn piece(device: &Device) -> usize {
    if device.adapter().is_some_and(|adapter| adapter.software) { 64 } else { 512 }
}

/// Reads a prompt piece by piece. False if Ctrl-C was pressed before its end.
async fn feed(session: &mut Session, ids: &[u32]) -> Result<bool> {
    let progress = Progress::new("reading", Unit::Tokens);
    let size = piece(session.model().device());
    let mut done = 0;
    for piece in ids.chunks(size) {
        let Some(result) = interrupt::unless(session.prefill(piece)).await else { return Ok(false) };
        result?;
        done += piece.len();
        progress.set(done as u64, ids.len() as u64);
    }
    Ok(true)
}

/// Generates until something stops it, Ctrl-C for instance, and hands out every token; tells what it was.
async fn generate_each(
    session: &mut Session,
    options: GenerateOptions,
    each: &mut dyn FnMut(&Token) -> Result<()>,
) -> Result<Ending> {
    let mut tokens = std::pin::pin!(session.generate(options));
    loop {
        // A stream that ends says why in its last token.
        let Some(token) = tokens.next().await.transpose()? else { return Ok(Ending::Limit) };
        each(&token)?;
        match token.finish {
            Some(finish) => return Ok(finish.into()),
            None if interrupt::requested() => return Ok(Ending::Interrupted),
            None => {}
        }
    }
}

/// Why generation ended.
#[derive(Debug, PartialEq)]
enum Ending {
    Stop(String),
    Eos,
    Limit,
    Interrupted,
}

impl From<Finish> for Ending {
    fn from(finish: Finish) -> Self {
        match finish {
            Finish::Stop(text) => Ending::Stop(text),
            Finish::Eos => Ending::Eos,
            Finish::Limit => Ending::Limit,
        }
    }
}

impl Ending {
    fn name(&self) -> &'static str {
        match self {
            Ending::Stop(_) => "stop",
            Ending::Eos => "eos",
            Ending::Limit => "limit",
            Ending::Interrupted => "interrupted",
        }
    }
}

/// Does what was asked for.
///
/// # Errors
/// Whatever stopped it.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let Settings { target, task } = settings;
    match task {
        Task::Generate(task) => generate::run(&target, task).await,
        Task::Chat(task) => chat::run(&target, task).await,
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
