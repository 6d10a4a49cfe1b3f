//! `taipan chat`: a conversation, turn by turn, on a terminal or from standard input.

mod command;
mod conversation;
mod file;
mod line;
mod wishes;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use taipan_chat::ChatTemplate;

use crate::failure::{Failure, Result};
use crate::settings::{Chat, Target};
use crate::target::{Opened, open_model};
use crate::{args, interrupt, output, text};
use command::Command;
use conversation::{Conversation, Reply};
use line::Lines;
pub(crate) use wishes::Wishes;

/// The conversation that is there without any fork.
const FIRST: &str = "main";

/// Talks until one side has enough.
pub(super) async fn run(target: &Target, task: Chat) -> Result<()> {
    interrupt::install();
    let opened = open_model(target, &task.model).await?;
    opened.model.tokenizer().ok_or(taipan::Error::NoTokenizer)?;
    let template = text::template(opened.dir.as_deref())?.transpose().map_err(|e| Failure::Input {
        message: e.to_string(),
        hint: "`taipan generate` gives the model a text to continue".to_owned(),
    })?;
    let mut lines = Lines::open()?;
    greet(&opened, template.as_ref(), &lines);
    let mut wishes = task.wishes;
    if template.is_none() && wishes.system.take().is_some() {
        return Err(Failure::usage("--system: the model has no chat template", "others continue a text, just type it"));
    }
    let now = Conversation::new(&opened, wishes.system.as_deref())?;
    let (json, script) = (task.json, lines.is_script());
    let talk =
        &mut Talk { opened, template, wishes, json, now, name: FIRST.to_owned(), others: BTreeMap::new(), last: None };
    let mut initial = String::new();
    while let Some(line) = lines.next(&std::mem::take(&mut initial))? {
        match talk.answer(&line).await {
            Ok(Next::Line) => {}
            Ok(Next::Edit(words)) => initial = words,
            Ok(Next::Leave) => break,
            Err(error) if script || !is_passing(&error) => return Err(error),
            Err(error) => error.tell(),
        }
        interrupt::forget();
    }
    Ok(())
}

/// Whether one can go on talking after it.
fn is_passing(error: &Failure) -> bool {
    !matches!(error, Failure::Stream { .. } | Failure::Library(taipan::Error::DeviceLost { .. }))
}

fn greet(opened: &Opened, template: Option<&ChatTemplate>, lines: &Lines) {
    if template.is_none() {
        output::note("This model has no chat template: it continues the text that you type.");
    }
    if !lines.is_script() {
        let device = opened.model.device().description();
        output::note(&format!("On {device}. /help lists commands, /exit leaves, Ctrl-C stops an answer."));
    }
}

/// What comes after a line.
enum Next {
    Line,
    /// A line that begins with these words.
    Edit(String),
    Leave,
}

struct Talk {
    opened: Opened,
    template: Option<ChatTemplate>,
    wishes: Wishes,
    json: bool,
    now: Conversation,
    /// Its name among the copies.
    name: String,
    others: BTreeMap<String, Conversation>,
    last: Option<Reply>,
}

impl Talk {
    async fn answer(&mut self, line: &str) -> Result<Next> {
        let Some(command) = Command::parse(line)? else { return Ok(Next::Line) };
        match command {
            Command::Say(words) => self.say(words).await?,
            Command::Help => output::note(args::chat_commands()),
            Command::Set(None) => output::note(&self.wishes.table()),
            Command::Set(Some((name, value))) => self.set(&name, &value)?,
            Command::Save(file) => {
                let (log, turns, state) = self.now.save().await?;
                file::write(Path::new(&file), log, turns, &state)?;
            }
            Command::Load(file) => {
                let (log, turns, state) = file::read(Path::new(&file))?;
                self.now = Conversation::load(&self.opened, log, turns, &state).await?;
                output::note(&format!("{} turns", self.now.turns()));
            }
            Command::Fork(name) => self.fork(name).await?,
            Command::Undo => {
                self.undo().await?;
            }
            Command::Edit(words) => {
                let old = self.undo().await?;
                match words {
                    Some(words) => self.say(words).await?,
                    None => return Ok(Next::Edit(old)),
                }
            }
            Command::Clear => self.now = Conversation::new(&self.opened, self.wishes.system.as_deref())?,
            Command::Stats => self.stats().await?,
            Command::Exit => return Ok(Next::Leave),
        }
        Ok(Next::Line)
    }

    async fn say(&mut self, words: String) -> Result<()> {
        let options = self.wishes.options(&self.opened.model);
        let (json, mut shown) = (self.json, false);
        let mut each = |text: &str| {
            shown |= !text.is_empty();
            if json || text.is_empty() { Ok(()) } else { output::text(text) }
        };
        let reply = self.now.say(&self.opened, self.template.as_ref(), words, options, &mut each).await;
        if shown && !json {
            output::text("\n")?;
        }
        let Some(reply) = reply? else {
            output::note("stopped before the answer began; the question is taken back");
            return Ok(());
        };
        match reply.finish {
            "limit" => output::note("(cut at the most tokens of an answer: /set n)"),
            "context" => output::note("(the context is full: --ctx, /undo or /clear)"),
            _ => {}
        }
        if json {
            output::json_line(&reply)?;
        }
        self.last = Some(reply);
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if name == "system" {
            if self.template.is_none() {
                let hint = "others continue a text, just type it";
                return Err(Failure::usage("/set system: the model has no chat template", hint));
            }
            if self.now.turns() > 0 {
                let hint = "/clear begins a new one, which /set system may come before";
                return Err(Failure::usage("/set system: the conversation has begun", hint));
            }
        }
        self.wishes.set(name, value)?;
        if name == "system" {
            self.now = Conversation::new(&self.opened, self.wishes.system.as_deref())?;
        }
        Ok(())
    }

    async fn undo(&mut self) -> Result<String> {
        let nothing = || Failure::usage("there is nothing to take back", "/help lists what there is");
        self.now.undo(&self.opened).await?.ok_or_else(nothing)
    }

    async fn fork(&mut self, name: Option<String>) -> Result<()> {
        let Some(name) = name else {
            let names = self.others.iter().map(|(name, other)| (name, other.turns()));
            let mut names: Vec<_> = names.chain([(&self.name, self.now.turns())]).collect();
            names.sort();
            let here = |name: &String| if *name == self.name { " (here)" } else { "" };
            let rows: Vec<String> =
                names.iter().map(|(name, turns)| format!("{name}: {turns} turns{}", here(name))).collect();
            output::note(&rows.join("\n"));
            return Ok(());
        };
        if name == self.name {
            return Ok(());
        }
        let next = match self.others.remove(&name) {
            Some(other) => other,
            None => self.now.fork().await?,
        };
        let left = std::mem::replace(&mut self.now, next);
        self.others.insert(std::mem::replace(&mut self.name, name), left);
        Ok(())
    }

    async fn stats(&mut self) -> Result<()> {
        let stats = self.now.stats().await?;
        let last = self.last.as_ref();
        let report = Stats {
            tokens: stats.tokens,
            read: self.now.read,
            written: self.now.written,
            turns: self.now.turns(),
            weight_bytes: stats.bytes.weights,
            state_bytes: stats.bytes.state,
            scratch_bytes: stats.bytes.scratch,
            kept_bytes: self.now.kept_bytes(),
        };
        if self.json { output::json_line(&report) } else { output::line(&report.table(last)) }
    }
}

#[derive(Serialize)]
struct Stats {
    /// Of the conversation.
    tokens: u64,
    /// Tokens of questions that were read, and of answers that were written, those taken back included.
    read: usize,
    written: usize,
    turns: usize,
    weight_bytes: u64,
    state_bytes: u64,
    scratch_bytes: u64,
    /// States to go back to.
    kept_bytes: usize,
}

impl Stats {
    fn table(&self, last: Option<&Reply>) -> String {
        let rate = |tokens: usize, seconds: f64| {
            let time = output::seconds(Duration::from_secs_f64(seconds));
            format!("{tokens} tokens in {time}, {:.1} tokens/s", tokens as f64 / seconds.max(1e-9))
        };
        let mut rows = vec![
            ("conversation", format!("{} turns, {} tokens", self.turns, self.tokens)),
            ("read", format!("{} tokens", self.read)),
            ("written", format!("{} tokens", self.written)),
        ];
        if let Some(reply) = last {
            rows.push(("last question", rate(reply.read, reply.read_seconds)));
            rows.push(("last answer", rate(reply.ids.len(), reply.write_seconds)));
        }
        rows.extend([
            ("weights", output::bytes(self.weight_bytes)),
            ("state", output::bytes(self.state_bytes)),
            ("scratch", output::bytes(self.scratch_bytes)),
            ("kept states", output::bytes(self.kept_bytes as u64)),
        ]);
        output::pairs(&rows)
    }
}
