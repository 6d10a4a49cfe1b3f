//! Text as it is made, sampled with a seed, until a stop string, the end of the text or a limit.

use std::io::Write;
use std::pin::pin;

use futures::TryStreamExt;
use taipan::{Backends, Device, Finish, GenerateOptions, LoadOptions, Model, Sampling, SessionOptions};
use taipan_examples::{Result, model_dir};

const PROMPT: &str = "Lily and Tom went to the park.";

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let (device, _) = Device::auto(Backends::PRIMARY).await;
    let model = Model::open(&model_dir(), &device, LoadOptions::default()).await?;
    let options = GenerateOptions {
        max_tokens: Some(120),
        // The random numbers are a function of the seed and the position, so a seed on a device names one text.
        sampling: Sampling { seed: 7, temperature: 0.8, top_k: 40, ..Sampling::default() },
        // A stop string is recognised across tokens, and is not part of the text.
        stop: vec!["\n".to_owned()],
        ignore_eos: false,
    };

    print!("{PROMPT}");
    let first = stream(&model, options.clone(), true).await?;
    println!();
    let again = stream(&model, options, false).await?;
    assert_eq!(first, again, "the same seed gives the same text");
    assert!(!first.contains('\n'), "the stop string is not delivered");
    Ok(())
}

/// The continuation of the prompt, printed on the way if `show`.
async fn stream(model: &Model, options: GenerateOptions, show: bool) -> Result<String> {
    let mut session = model.session(SessionOptions::default())?;
    session.prefill(&model.encode(PROMPT)?).await?;
    let mut text = String::new();
    let mut tokens = pin!(session.generate(options));
    // Dropping the stream instead would stop it; the session is then at exactly the tokens delivered.
    while let Some(token) = tokens.try_next().await? {
        // A token's text may be empty: half a character, or something that may yet become the stop string, is held back.
        text += &token.text;
        if show {
            print!("{}", token.text);
            std::io::stdout().flush()?;
            match token.finish {
                Some(Finish::Stop(stop)) => eprint!("\n(stopped at {stop:?})"),
                Some(Finish::Eos) => eprint!("\n(the text ended)"),
                Some(Finish::Limit) => eprint!("\n(the limit was reached)"),
                None => {}
            }
        }
    }
    Ok(text)
}
