//! What can be typed: messages, and commands that begin with a slash.

use crate::failure::{Failure, Result};

/// What a line asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Say(String),
    Help,
    /// A name and its value, or nothing to list them.
    Set(Option<(String, String)>),
    Save(String),
    Load(String),
    Fork(Option<String>),
    Undo,
    /// New words, or nothing to be given the old ones.
    Edit(Option<String>),
    Clear,
    Stats,
    Exit,
}

impl Command {
    /// Reads a line; `None` where nothing is on it.
    pub(super) fn parse(line: &str) -> Result<Option<Command>> {
        let Some(rest) = line.strip_prefix('/') else {
            return Ok((!line.trim().is_empty()).then(|| Command::Say(line.to_owned())));
        };
        if rest.starts_with('/') {
            return Ok(Some(Command::Say(rest.to_owned())));
        }
        let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let argument = Some(argument.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
        let needed = |what: &str| {
            let message = format!("/{name} needs {what}");
            argument.clone().ok_or_else(|| Failure::usage(message, "/help lists what there is"))
        };
        let command = match name {
            "save" => Command::Save(needed("a file")?),
            "load" => Command::Load(needed("a file")?),
            "fork" => Command::Fork(argument),
            "edit" => Command::Edit(argument),
            "set" => Command::Set(argument.map(|text| match text.split_once(char::is_whitespace) {
                Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
                None => (text, String::new()),
            })),
            other => {
                if argument.is_some() && is_bare(other) {
                    return Err(Failure::usage(format!("/{other} takes no words"), "/help lists what there is"));
                }
                bare(other).ok_or_else(|| {
                    let hint = "/help lists what there is; // begins a message with a slash";
                    Failure::usage(format!("/{other} is no command"), hint)
                })?
            }
        };
        Ok(Some(command))
    }
}

fn is_bare(name: &str) -> bool {
    bare(name).is_some()
}

/// Commands that are one word.
fn bare(name: &str) -> Option<Command> {
    Some(match name {
        "help" | "?" => Command::Help,
        "undo" => Command::Undo,
        "clear" => Command::Clear,
        "stats" => Command::Stats,
        "exit" | "quit" | "bye" => Command::Exit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Command> {
        Command::parse(line).expect("it makes sense")
    }

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(parse("Hello"), Some(Command::Say("Hello".to_owned())));
        assert_eq!(parse("//etc is a folder"), Some(Command::Say("/etc is a folder".to_owned())));
        assert_eq!(parse("  "), None);
        assert_eq!(parse("/set temp  0.5 "), Some(Command::Set(Some(("temp".to_owned(), "0.5".to_owned())))));
        assert_eq!(parse("/set"), Some(Command::Set(None)));
        assert_eq!(parse("/save a file"), Some(Command::Save("a file".to_owned())));
        assert_eq!(parse("/fork"), Some(Command::Fork(None)));
        assert_eq!(parse("/exit"), Some(Command::Exit));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, said) in [
            ("/dance", "/dance is no command"),
            ("/save", "/save needs a file"),
            ("/undo twice", "/undo takes no words"),
        ] {
            match Command::parse(line) {
                Err(Failure::Usage { message, .. }) => assert_eq!(message, said),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        let help = crate::args::chat_commands();
        for name in ["help", "set", "undo", "edit", "save", "load", "fork", "clear", "stats", "exit"] {
            assert!(help.contains(&format!("  /{name} ")), "/{name}");
            assert!(Command::parse(&format!("/{name}")).is_ok() || ["save", "load"].contains(&name), "/{name}");
        }
    }
}
