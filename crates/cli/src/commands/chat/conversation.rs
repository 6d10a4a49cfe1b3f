//! A conversation and the session that has read it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use taipan::{Error, GenerateOptions, Session, Token};
use taipan_chat::{ChatTemplate, Clock, Message};

use crate::commands::{feed, generate_each};
use crate::failure::{Failure, Result};
use crate::target::Opened;
use crate::{output, text};

/// Bytes of states that are kept to go back to; the last one is kept whatever its size.
const KEPT: usize = 512 << 20;

/// What was said, and a session whose state is that of all of it.
pub(super) struct Conversation {
    session: Session,
    pub(super) log: Log,
    /// What there was before each turn.
    past: Vec<Past>,
    /// Tokens that were read and written, in all.
    pub(super) read: usize,
    pub(super) written: usize,
}

/// What was said, as the session has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Log {
    /// Role and words.
    pub(super) messages: Vec<(String, String)>,
    /// All of it as the template writes it, but for the end-of-text token.
    pub(super) text: String,
    /// The tokens that the session has read and written.
    pub(super) ids: Vec<u32>,
}

/// How long a log was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    messages: usize,
    text: usize,
    ids: usize,
}

/// What there was at a time.
#[derive(Clone)]
struct Past {
    log: Log,
    /// The state then; `None` at the beginning, or where there was no room to keep it.
    state: Option<Arc<[u8]>>,
}

/// An answer.
#[derive(Debug, Default, Serialize)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
    /// `eos`, `limit`, `interrupted` or `context`.
    pub(super) finish: &'static str,
    /// Tokens that were read for it.
    pub(super) read: usize,
    /// Tokens of the conversation.
    pub(super) position: usize,
    pub(super) read_seconds: f64,
    pub(super) write_seconds: f64,
}

impl Log {
    fn mark(&self) -> Mark {
        Mark { messages: self.messages.len(), text: self.text.len(), ids: self.ids.len() }
    }

    /// What it was at a mark, where that lies in it.
    fn at(&self, mark: Mark) -> Option<Log> {
        Some(Log {
            messages: self.messages.get(..mark.messages)?.to_vec(),
            text: self.text.get(..mark.text)?.to_owned(),
            ids: self.ids.get(..mark.ids)?.to_vec(),
        })
    }
}

impl Conversation {
    pub(super) fn new(opened: &Opened, system: Option<&str>) -> Result<Conversation> {
        let session = opened.model.session(opened.options.clone())?;
        let messages = system.map(|text| ("system".to_owned(), text.to_owned())).into_iter().collect();
        let log = Log { messages, ..Log::default() };
        Ok(Conversation { session, log, past: Vec::new(), read: 0, written: 0 })
    }

    /// Another one that has come as far.
    pub(super) async fn fork(&mut self) -> Result<Conversation> {
        let (log, past) = (self.log.clone(), self.past.clone());
        Ok(Conversation { session: self.session.fork().await?, log, past, read: self.read, written: self.written })
    }

    pub(super) async fn stats(&mut self) -> Result<taipan::Stats> {
        Ok(self.session.stats().await?)
    }

    /// Bytes of the states that are kept to go back to.
    pub(super) fn kept_bytes(&self) -> usize {
        self.past.iter().filter_map(|past| Some(past.state.as_ref()?.len())).sum()
    }

    /// Questions that can be taken back.
    pub(super) fn turns(&self) -> usize {
        self.past.len()
    }

    /// Asks, and hands out the answer as it is made. What fails leaves everything as it was; `None` if Ctrl-C was pressed
    /// before the answer began.
    pub(super) async fn say(
        &mut self,
        opened: &Opened,
        template: Option<&ChatTemplate>,
        words: String,
        options: GenerateOptions,
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Option<Reply>> {
        self.keep().await?;
        match self.turn(opened, template, words, options, each).await {
            Ok(Some(reply)) => Ok(Some(reply)),
            // Whatever happened: the state is in between.
            other => {
                self.undo(opened).await?;
                other
            }
        }
    }

    async fn turn(
        &mut self,
        opened: &Opened,
        template: Option<&ChatTemplate>,
        words: String,
        options: GenerateOptions,
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Option<Reply>> {
        self.log.messages.push(("user".to_owned(), words));
        let new = match template {
            Some(template) => self.rest(opened, &self.render(template)?).await?,
            None => self.continuation(),
        };
        let Some(ids) = self.encode(opened, template, &new)? else { return Err(Error::EmptyPrompt.into()) };
        let mut reply = Reply { read: ids.len(), ..Reply::default() };
        let start = std::time::Instant::now();
        self.read += ids.len();
        if !feed(&mut self.session, &ids).await? {
            return Ok(None);
        }
        reply.read_seconds = start.elapsed().as_secs_f64();
        self.log.text += &new;
        self.log.ids.extend(ids);
        let start = std::time::Instant::now();
        let mut add = |token: &Token| {
            reply.ids.push(token.id);
            reply.text += &token.text;
            each(&token.text)
        };
        let made = generate_each(&mut self.session, options, &mut add).await;
        reply.finish = match made {
            Ok(ending) => ending.name(),
            // What there is of the answer is worth keeping.
            Err(Failure::Library(Error::ContextFull { .. })) if !reply.ids.is_empty() => "context",
            Err(error) => return Err(error),
        };
        let rest = self.session.finish_text()?;
        each(&rest)?;
        reply.text += &rest;
        reply.write_seconds = start.elapsed().as_secs_f64();
        self.written += reply.ids.len();
        if reply.ids.is_empty() {
            return Ok(None);
        }
        self.log.text += &reply.text;
        self.log.ids.extend(&reply.ids);
        self.log.messages.push(("assistant".to_owned(), reply.text.clone()));
        reply.position = self.log.ids.len();
        Ok(Some(reply))
    }

    fn render(&self, template: &ChatTemplate) -> Result<String> {
        let messages: Vec<_> = self.log.messages.iter().map(|(role, text)| Message::new(role, text)).collect();
        template.render(&messages, Clock::Now).map_err(|e| Failure::Input {
            message: e.to_string(),
            hint: "/undo goes back; `taipan generate` gives the model a text to continue".to_owned(),
        })
    }

    /// What of the whole text the session has not read. Where the template writes what was said otherwise than it was read,
    /// the session goes back to where the two agree.
    async fn rest(&mut self, opened: &Opened, whole: &str) -> Result<String> {
        if let Some(rest) = whole.strip_prefix(&self.log.text) {
            return Ok(rest.to_owned());
        }
        let agreed = self.past.iter().rev().find_map(|past| Some((past.clone(), whole.strip_prefix(&past.log.text)?)));
        let (past, rest) = agreed.ok_or_else(|| Failure::Input {
            message: "the template begins this conversation in another way than before".to_owned(),
            hint: "/clear begins a new one".to_owned(),
        })?;
        self.go_to(opened, &past).await?;
        // Only what was read and written is taken back, not what was said.
        (self.log.text, self.log.ids) = (past.log.text, past.log.ids);
        Ok(rest.to_owned())
    }

    /// A text that is continued: words are set apart from what stands before them.
    fn continuation(&self) -> String {
        let words = self.log.messages.last().map_or("", |(_, words)| words);
        let joined = self.log.text.is_empty() || self.log.text.ends_with(char::is_whitespace);
        if joined || words.starts_with(char::is_whitespace) { words.to_owned() } else { format!(" {words}") }
    }

    /// The tokens of more text; `None` if it has none.
    fn encode(&self, opened: &Opened, template: Option<&ChatTemplate>, new: &str) -> Result<Option<Vec<u32>>> {
        // A template writes the BOS itself.
        let begins = self.log.ids.is_empty() && template.is_none();
        let encode = if begins { text::encode_start } else { text::encode };
        let mut ids = encode(&opened.model, new)?;
        // The token with which the model ended its answer stands in the template too.
        let ended = self.log.ids.last().filter(|id| opened.model.config().eos_token_ids.contains(id));
        if ended.is_some() && ids.first() == ended {
            ids.remove(0);
        }
        Ok((!ids.is_empty()).then_some(ids))
    }

    /// Keeps the state to go back to.
    async fn keep(&mut self) -> Result<()> {
        let state = match self.session.position() {
            0 => None,
            _ => Some(self.session.save().await?.into()),
        };
        self.past.push(Past { log: self.log.clone(), state });
        let mut room = KEPT;
        for past in self.past.iter_mut().rev() {
            let bytes = past.state.as_ref().map_or(0, |state| state.len());
            if bytes > room && room < KEPT {
                past.state = None;
            }
            room = room.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Takes back the last question and what came of it; gives the question.
    pub(super) async fn undo(&mut self, opened: &Opened) -> Result<Option<String>> {
        let Some(past) = self.past.last().cloned() else { return Ok(None) };
        self.go_to(opened, &past).await?;
        self.past.pop();
        let log = std::mem::replace(&mut self.log, past.log);
        let question = log.messages.into_iter().nth(self.log.messages.len());
        Ok(question.map(|(_, words)| words))
    }

    /// Gives the session the state that it had; where that was not kept, the text is read anew.
    async fn go_to(&mut self, opened: &Opened, past: &Past) -> Result<()> {
        if let Some(state) = &past.state {
            return Ok(self.session.restore(state).await?);
        }
        self.session = opened.model.session(opened.options.clone())?;
        let ids = &past.log.ids;
        if ids.is_empty() {
            return Ok(());
        }
        output::note("note: the state of then was not kept; the text is read again");
        self.read += ids.len();
        if feed(&mut self.session, ids).await? { Ok(()) } else { Err(Failure::Interrupted) }
    }

    /// Everything that is needed to go on elsewhere.
    pub(super) async fn save(&mut self) -> Result<(Log, Vec<Mark>, Vec<u8>)> {
        // Of a turn that the template wrote otherwise later, what was read then is not part of what was read since.
        let mark = |past: &Past| Some(past.log.mark()).filter(|mark| self.log.at(*mark).as_ref() == Some(&past.log));
        let marks = self.past.iter().filter_map(mark).collect();
        let state = if self.session.position() == 0 { Vec::new() } else { self.session.save().await? };
        Ok((self.log.clone(), marks, state))
    }

    /// Goes on with what was saved. On error everything is as it was.
    pub(super) async fn load(opened: &Opened, log: Log, marks: Vec<Mark>, state: &[u8]) -> Result<Conversation> {
        let damaged = |problem: &str| Failure::Input {
            message: format!("what was saved does not agree with itself: {problem}"),
            hint: "only what /save wrote can be loaded".to_owned(),
        };
        let mut loaded = Conversation::new(opened, None)?;
        if !state.is_empty() {
            loaded.session.restore(state).await?;
        }
        if loaded.session.position() != log.ids.len() {
            return Err(damaged("its state is of another text"));
        }
        let past = |mark| Some(Past { log: log.at(mark)?, state: None });
        let past: Option<_> = marks.into_iter().map(past).collect();
        loaded.past = past.ok_or_else(|| damaged("a turn lies outside of it"))?;
        loaded.log = log;
        Ok(loaded)
    }
}
