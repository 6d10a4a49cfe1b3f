//! Where messages come from: a terminal with a line editor, or any other standard input, line by line.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, Helper, KeyCode, KeyEvent,
    Modifiers, Movement, RepeatCount,
};

use crate::failure::{Failure, Result};
use crate::interrupt::AtOnce;

/// Lines that are remembered from one run to the next.
const HISTORY: usize = 1000;

/// Where messages come from.
pub(super) enum Lines {
    Terminal(Box<Terminal>),
    /// Standard input that is no terminal.
    Script,
}

/// A line editor that knows what was typed before.
pub(super) struct Terminal {
    editor: Editor<Continued, FileHistory>,
    history: Option<PathBuf>,
}

impl Lines {
    pub(super) fn open() -> Result<Lines> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Lines::Script);
        }
        let config = Config::builder().max_history_size(HISTORY).map_err(failure)?.auto_add_history(false).build();
        let mut editor = Editor::<Continued, FileHistory>::with_config(config).map_err(failure)?;
        editor.set_helper(Some(Continued));
        let new_line = KeyEvent(KeyCode::Enter, Modifiers::ALT);
        editor.bind_sequence(new_line, EventHandler::Simple(Cmd::Newline));
        editor.bind_sequence(KeyEvent::ctrl('c'), EventHandler::Conditional(Box::new(ClearFirst)));
        let history = history_file();
        if let Some(file) = &history {
            // There is none at first, and one that cannot be read is no reason not to talk.
            let _ = editor.load_history(file);
        }
        Ok(Lines::Terminal(Box::new(Terminal { editor, history })))
    }

    pub(super) fn is_script(&self) -> bool {
        matches!(self, Lines::Script)
    }

    /// The next message or command, which may have several lines; `None` at the end. On a terminal it begins as `initial`
    /// and can be edited.
    pub(super) fn next(&mut self, initial: &str) -> Result<Option<String>> {
        let _at_once = AtOnce::new();
        match self {
            Lines::Script => script_line(&mut io::stdin().lock()),
            Lines::Terminal(terminal) => terminal.next(initial),
        }
    }
}

impl Terminal {
    fn next(&mut self, initial: &str) -> Result<Option<String>> {
        match self.editor.readline_with_initial("> ", (initial, "")) {
            Ok(line) => {
                let _ = self.editor.add_history_entry(line.as_str());
                self.keep_history();
                Ok(Some(join(&line)))
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    /// As far as that is possible.
    fn keep_history(&mut self) {
        let Some(file) = &self.history else { return };
        let made = file.parent().is_none_or(|dir| std::fs::create_dir_all(dir).is_ok());
        if made {
            let _ = self.editor.append_history(file);
        }
    }
}

fn failure(error: ReadlineError) -> Failure {
    let source = match error {
        ReadlineError::Io(source) => source,
        other => io::Error::other(other.to_string()),
    };
    Failure::Stream { name: "the terminal", source }
}

/// A line, with those that follow a backslash at its end; `None` at the end of input.
fn script_line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let fail = |source| Failure::Stream { name: "standard input", source };
    let mut text = String::new();
    loop {
        let before = text.len();
        let mut bytes = Vec::new();
        reader.read_until(b'\n', &mut bytes).map_err(fail)?;
        let line = String::from_utf8(bytes).map_err(|e| {
            let offset = e.utf8_error().valid_up_to() as u64;
            Failure::NotUtf8 { name: "a line of standard input".to_owned(), offset }
        })?;
        text.push_str(&line);
        if text.len() == before {
            return Ok((!text.is_empty()).then(|| join(&text)));
        }
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if !text.ends_with('\\') {
            return Ok(Some(join(&text)));
        }
        text.push('\n');
    }
}

/// A backslash at the end of a line stands for nothing but going on.
fn join(text: &str) -> String {
    text.replace("\\\n", "\n")
}

/// A file for what was typed, where the system keeps such things.
fn history_file() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let dir = if cfg!(windows) {
        var("LOCALAPPDATA")?
    } else {
        var("XDG_STATE_HOME").or_else(|| Some(std::env::home_dir()?.join(".local/state")))?
    };
    Some(dir.join("taipan").join("chat-history"))
}

/// Goes on after a backslash; completes, hints and colours nothing.
struct Continued;

impl Validator for Continued {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let goes_on = context.input().ends_with('\\');
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Continued {
    type Candidate = String;
}

impl Hinter for Continued {
    type Hint = String;
}

impl Highlighter for Continued {}

impl Helper for Continued {}

/// Ctrl-C clears what is typed, and where nothing is, leaves.
struct ClearFirst;

impl ConditionalEventHandler for ClearFirst {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        Some(if context.line().is_empty() { Cmd::Interrupt } else { Cmd::Kill(Movement::WholeBuffer) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_script_go_on_after_a_backslash() {
        let mut text = &b"one\n\ntwo\\\nand \\ three\\\r\nfour\r\nlast\\"[..];
        let mut next = || script_line(&mut text).expect("it is text");
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("two\nand \\ three\nfour"));
        assert_eq!(next().as_deref(), Some("last\n"));
        assert_eq!(next(), None);
        assert!(matches!(script_line(&mut &b"a\xff\n"[..]), Err(Failure::NotUtf8 { offset: 1, .. })));
    }
}
