//! Tokens per second of prefill and decode, and time per kernel, on a model drawn from a seed.

mod kernels;
mod random;

use std::time::{Duration, Instant};

use clap::Parser;
use pollster::block_on;
use taipan::{Device, GpuRequest, LoadOptions, Model, SessionOptions, WeightDtype};

/// Measures `mamba2-4.8m` with random weights.
#[derive(Parser)]
struct Args {
    /// `cpu` or `gpu`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Prompt tokens.
    #[arg(short = 'p', long, default_value_t = 128)]
    prompt: usize,
    /// Decoded tokens.
    #[arg(short = 'n', long, default_value_t = 32)]
    predict: usize,
    /// Repetitions; the median is reported.
    #[arg(short = 'r', long, default_value_t = 5)]
    repetitions: usize,
    /// Time every kernel on its own instead.
    #[arg(long)]
    kernels: bool,
}

fn main() -> taipan::Result<()> {
    block_on(run(&Args::parse()))
}

async fn run(args: &Args) -> taipan::Result<()> {
    let device = match args.device.as_str() {
        "cpu" => Device::cpu(),
        _ => Device::gpu(&GpuRequest::default()).await?,
    };
    if args.kernels {
        return kernels::profile(random::MAMBA2_4_8M, &device, args.prompt).await;
    }
    let options = LoadOptions { dtype: WeightDtype::F16, ..LoadOptions::default() };
    let model = Model::from_bytes(random::files(random::MAMBA2_4_8M, 1)?, &device, options).await?;
    let ids: Vec<u32> = (0..args.prompt as u32).map(|i| i * 2_654_435_761 % 4096).collect();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for repetition in 0..=args.repetitions {
        let mut session = model.session(SessionOptions::default())?;
        let start = Instant::now();
        session.prefill(&ids).await?;
        session.logits().await?;
        let prefilled = start.elapsed();
        let start = Instant::now();
        generate(&mut session, args.predict).await?;
        // The first repetition warms up.
        if repetition > 0 {
            prefill.push(prefilled);
            decode.push(start.elapsed());
        }
    }
    println!("device  {}", device.description());
    println!("pp{:<5} {:8.1} tokens/s", args.prompt, rate(args.prompt, &mut prefill));
    println!("tg{:<5} {:8.1} tokens/s", args.predict, rate(args.predict, &mut decode));
    let stats = model.session(SessionOptions::default())?.stats().await?;
    println!("per token: {} dispatches, {} submits", stats.decode_dispatches, stats.decode_submits);
    Ok(())
}

async fn generate(session: &mut taipan::Session, n: usize) -> taipan::Result<()> {
    use futures::StreamExt;
    let options = taipan::GenerateOptions { max_tokens: Some(n), ignore_eos: true, ..Default::default() };
    let mut stream = Box::pin(session.generate(options));
    while let Some(token) = stream.next().await {
        token?;
    }
    Ok(())
}

/// Tokens per second at the median time.
fn rate(tokens: usize, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    tokens as f64 / times[times.len() / 2].as_secs_f64()
}
