//! A session is about a megabyte whatever the length of its text, so it can be copied and kept: `fork` continues one text
//! in two ways, `save` and `restore` continue it tomorrow, without reading the prompt again.

use std::pin::pin;

use futures::TryStreamExt;
use taipan::{Backends, Device, GenerateOptions, LoadOptions, Model, Sampling, Session, SessionOptions};
use taipan_examples::{Result, model_dir};

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let (device, _) = Device::auto(Backends::PRIMARY).await;
    let model = Model::open(&model_dir(), &device, LoadOptions::default()).await?;
    let mut story = model.session(SessionOptions::default())?;
    story.prefill(&model.encode("One day, a little dog found a red ball. He")?).await?;
    let saved = story.save().await?;
    println!("saved: {} bytes after {} tokens", saved.len(), story.position());

    // A fork has the same state; both go on independently.
    let mut fork = story.fork().await?;
    let told = greedy(&mut story).await?;
    println!("story:    {told}");
    assert_eq!(told, greedy(&mut fork).await?, "a fork continues as the original does");

    // Two branches from here: feed each something else.
    let (mut happy, mut sad) = (story.fork().await?, story);
    happy.prefill(&model.encode(" He was so happy that")?).await?;
    sad.prefill(&model.encode(" But then he was sad because")?).await?;
    println!("happy:    … He was so happy that{}", greedy(&mut happy).await?);
    println!("sad:      … But then he was sad because{}", greedy(&mut sad).await?);

    // The bytes bring the text back in a new session, here or (within rounding) on another device.
    let mut restored = model.session(SessionOptions::default())?;
    restored.restore(&saved).await?;
    let again = greedy(&mut restored).await?;
    println!("restored: {again}");
    assert_eq!(told, again, "a restored session continues as if it had never been saved");

    // The size does not depend on how long the text has become; only the header's numbers get longer.
    let later = restored.save().await?;
    println!("saved: {} bytes after {} tokens", later.len(), restored.position());
    assert!(later.len().abs_diff(saved.len()) < 64, "a state does not grow with its text");

    // Bytes are checked before anything is touched: a damaged state is an error, not a strange text.
    let mut damaged = saved.clone();
    *damaged.last_mut().expect("a saved state is not empty") ^= 1;
    let error = restored.restore(&damaged).await.expect_err("the checksum does not fit");
    println!("damaged:  {error}");
    Ok(())
}

/// The next 24 tokens' text, without chance.
async fn greedy(session: &mut Session) -> Result<String> {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let options = GenerateOptions { max_tokens: Some(24), sampling, ..GenerateOptions::default() };
    let tokens: Vec<_> = pin!(session.generate(options)).try_collect().await?;
    Ok(tokens.iter().map(|token| token.text.as_str()).collect())
}
