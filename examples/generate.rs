//! The shortest way from a prompt to text: open a model, feed a prompt, collect what follows.

use std::pin::pin;

use futures::TryStreamExt;
use taipan::{Backends, Device, GenerateOptions, LoadOptions, Model, Sampling, SessionOptions};
use taipan_examples::{Result, model_dir};

const PROMPT: &str = "Once upon a time";

fn main() -> Result<()> {
    // The library is asynchronous because a browser must never wait; a program may, with any executor.
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    // A real GPU where there is one, else the CPU, and then a note that says so.
    let (device, note) = Device::auto(Backends::PRIMARY).await;
    if let Some(note) = note {
        eprintln!("{note}");
    }
    let model = Model::open(&model_dir(), &device, LoadOptions::default()).await?;

    // A session is one text in progress. Nothing is added to the prompt; write special tokens where you want them.
    let mut session = model.session(SessionOptions::default())?;
    session.prefill(&model.encode(PROMPT)?).await?;

    // A temperature of 0 is greedy: always the most probable token, and the same text on every device.
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let options = GenerateOptions { max_tokens: Some(60), sampling, ..GenerateOptions::default() };
    let mut text = String::new();
    let mut tokens = pin!(session.generate(options));
    while let Some(token) = tokens.try_next().await? {
        text += &token.text;
    }

    println!("{PROMPT}{text}");
    assert!(!text.is_empty(), "a model that says nothing is broken");
    Ok(())
}
