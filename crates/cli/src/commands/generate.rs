//! `taipan generate`: continues a prompt.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use taipan::{GenerateOptions, Model, Session, Stats, Token};
use taipan_chat::Message;

use super::{Ending, feed, generate_each};
use crate::failure::{Failure, Result};
use crate::settings::{Generate, PromptSource, Target};
use crate::target::{model_name, open_model};
use crate::{interrupt, output, text};

/// Streams text, or prints one JSON object at the end.
pub(super) async fn run(target: &Target, task: Generate) -> Result<()> {
    let prompt = read_prompt(&task.prompt)?;
    // Not before: Ctrl-C must end a program that waits for input.
    interrupt::install();
    let opened = open_model(target, &task.model).await?;
    let model = &opened.model;
    let ids = match &task.chat {
        Some(system) => text::encode(model, &chat_prompt(opened.dir.as_deref(), system.as_deref(), &prompt)?)?,
        None => text::encode_start(model, &prompt)?,
    };
    let mut session = model.session(opened.options.clone())?;
    let mut shown = Shown { json: task.json, text: String::new(), ids: Vec::new() };
    let mut clock = Clock { load: opened.load_time, ..Clock::default() };
    let was_read = prefill(&mut session, &ids, &mut clock).await?;
    // Not before: a bar of progress takes a line of its own, and would take that of the prompt with it.
    if was_read && task.display_prompt && !task.json && task.chat.is_none() {
        output::text(&prompt)?;
    }
    let ending = match was_read {
        false => Ending::Interrupted,
        true if task.max_tokens == Some(0) => Ending::Limit,
        true => stream(&mut session, &task, &mut shown, &mut clock).await?,
    };
    if was_read && !task.json {
        output::text("\n")?;
    }
    let stats = session.stats().await?;
    let timings = Timings::new(&clock, ids.len(), shown.ids.len(), &stats);
    if task.show_timings {
        output::note(&timings.table(model, task.sampling.seed));
    }
    let interrupted = ending == Ending::Interrupted;
    if task.json {
        output::json(&Report::new(&task, prompt, shown, ending, timings, model))?;
    }
    if interrupted { Err(Failure::Interrupted) } else { Ok(()) }
}

/// What the model's template makes of a question.
fn chat_prompt(dir: Option<&Path>, system: Option<&str>, question: &str) -> Result<String> {
    let refuse = |e: taipan_chat::ChatError| Failure::Input {
        message: e.to_string(),
        hint: "leave out --chat to give the model a text to continue".to_owned(),
    };
    let template = text::template(dir)?.transpose().map_err(refuse)?;
    let template = template.ok_or_else(|| Failure::Input {
        message: "--chat: the model has no chat template".to_owned(),
        hint: "a chat model has a chat_template.jinja, or one in tokenizer_config.json or its GGUF file; others continue a text"
            .to_owned(),
    })?;
    let system = system.map(|text| Message::new("system", text));
    let messages: Vec<Message> = system.into_iter().chain([Message::new("user", question)]).collect();
    template.render(&messages, taipan_chat::Clock::Now).map_err(refuse)
}

/// A prompt of no token is refused before a model is loaded for it.
fn read_prompt(source: &PromptSource) -> Result<String> {
    let prompt = match source {
        PromptSource::Text(text) => text.clone(),
        other => text::without_final_newline(text::read(other)?),
    };
    if prompt.is_empty() { Err(taipan::Error::EmptyPrompt.into()) } else { Ok(prompt) }
}

/// Reads the prompt. False if Ctrl-C was pressed before its end.
async fn prefill(session: &mut Session, ids: &[u32], clock: &mut Clock) -> Result<bool> {
    if ids.is_empty() {
        return Err(taipan::Error::EmptyPrompt.into());
    }
    let start = Instant::now();
    let was_read = feed(session, ids).await?;
    clock.prefill = start.elapsed();
    Ok(was_read)
}

/// Generates until something stops it, and prints text as it becomes final.
async fn stream(session: &mut Session, task: &Generate, shown: &mut Shown, clock: &mut Clock) -> Result<Ending> {
    let options = GenerateOptions {
        max_tokens: task.max_tokens,
        sampling: task.sampling.resolve(session.model().generation()),
        stop: task.stop.clone(),
        ignore_eos: task.ignore_eos,
    };
    let start = Instant::now();
    let mut add = |token: &Token| {
        clock.first.get_or_insert_with(|| start.elapsed());
        shown.ids.push(token.id);
        shown.add(&token.text)
    };
    let ending = generate_each(session, options, &mut add).await?;
    clock.generate = start.elapsed();
    // What could have become a stop string, or a character, did not.
    if !matches!(ending, Ending::Stop(_)) {
        shown.add(&session.finish_text()?)?;
    }
    Ok(ending)
}

/// What has been generated.
struct Shown {
    json: bool,
    text: String,
    ids: Vec<u32>,
}

impl Shown {
    fn add(&mut self, text: &str) -> Result<()> {
        self.text.push_str(text);
        if self.json || text.is_empty() { Ok(()) } else { output::text(text) }
    }
}

/// Times taken along the way.
#[derive(Default)]
struct Clock {
    load: Duration,
    prefill: Duration,
    /// From the end of the prompt to the first token.
    first: Option<Duration>,
    generate: Duration,
}

/// What `--show-timings` and `--json` tell about speed and memory.
#[derive(Serialize)]
struct Timings {
    load_seconds: f64,
    prompt_tokens: usize,
    prompt_seconds: f64,
    prompt_tokens_per_second: Option<f64>,
    /// From the start of reading the prompt to the first token.
    first_token_seconds: Option<f64>,
    generated_tokens: usize,
    /// Over the tokens after the first.
    decode_tokens_per_second: Option<f64>,
    dispatches_per_token: usize,
    submits_per_token: usize,
    weight_bytes: u64,
    state_bytes: u64,
    scratch_bytes: u64,
}

impl Timings {
    fn new(clock: &Clock, prompt: usize, generated: usize, stats: &Stats) -> Timings {
        let rate =
            |tokens: usize, time: Duration| (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64());
        let first = clock.first.unwrap_or_default();
        Timings {
            load_seconds: clock.load.as_secs_f64(),
            prompt_tokens: prompt,
            prompt_seconds: clock.prefill.as_secs_f64(),
            prompt_tokens_per_second: rate(prompt, clock.prefill),
            first_token_seconds: clock.first.map(|first| (clock.prefill + first).as_secs_f64()),
            generated_tokens: generated,
            decode_tokens_per_second: rate(generated.saturating_sub(1), clock.generate.saturating_sub(first)),
            dispatches_per_token: stats.decode_dispatches,
            submits_per_token: stats.decode_submits,
            weight_bytes: stats.bytes.weights,
            state_bytes: stats.bytes.state,
            scratch_bytes: stats.bytes.scratch,
        }
    }

    fn table(&self, model: &Model, seed: u64) -> String {
        let time = |seconds: f64| output::seconds(Duration::from_secs_f64(seconds));
        let rate = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), |r| format!("{r:.1} tokens/s"));
        output::pairs(&[
            ("device", model.device().description()),
            ("seed", seed.to_string()),
            ("load", time(self.load_seconds)),
            ("prompt", format!("{} tokens, {}", self.prompt_tokens, rate(self.prompt_tokens_per_second))),
            ("first token", self.first_token_seconds.map_or_else(|| "–".to_owned(), time)),
            ("decode", format!("{} tokens, {}", self.generated_tokens, rate(self.decode_tokens_per_second))),
            ("dispatches per token", self.dispatches_per_token.to_string()),
            ("submits per token", self.submits_per_token.to_string()),
            ("weights", output::bytes(self.weight_bytes)),
            ("state", output::bytes(self.state_bytes)),
            ("scratch", output::bytes(self.scratch_bytes)),
        ])
    }
}

/// The JSON object.
#[derive(Serialize)]
struct Report {
    model: String,
    fingerprint: String,
    device: String,
    prompt: String,
    /// What was generated, without the prompt.
    text: String,
    ids: Vec<u32>,
    /// `stop`, `eos`, `limit` or `interrupted`.
    finish: &'static str,
    /// The stop string that was met.
    stop: Option<String>,
    seed: u64,
    timings: Timings,
}

impl Report {
    fn new(task: &Generate, prompt: String, shown: Shown, ending: Ending, timings: Timings, model: &Model) -> Report {
        Report {
            model: model_name(task.model.dir.as_ref()),
            fingerprint: model.fingerprint(),
            device: model.device().description(),
            prompt,
            text: shown.text,
            ids: shown.ids,
            finish: ending.name(),
            stop: if let Ending::Stop(text) = ending { Some(text) } else { None },
            seed: task.sampling.seed,
            timings,
        }
    }
}
