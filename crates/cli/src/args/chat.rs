//! Talking to a model.

use super::{ModelArgs, SamplingArgs};

const CHAT_HELP: &str = "\
What you type goes through the model's chat template, and the answer is printed as it is made. A model without a \
template, as the embedded one, continues the text that you type instead.

A turn goes on from the state that the last one left: nothing is read twice, however long the conversation is.

Alt-Enter begins a new line, and so does Enter after a backslash; arrow keys bring back and edit what was typed before. \
Ctrl-C stops the answer; at the prompt it clears the line, and on an empty one leaves, as Ctrl-D does.

Lines that begin with a slash are commands; two slashes begin a message with one.
  /help              this list
  /set [NAME VALUE]  temp, top-k, top-p, min-p, repeat-penalty, repeat-last-n, seed, n, system; alone, their values
  /undo              take back the last question and its answer
  /edit [TEXT]       ask the last question anew, with other words
  /save FILE         keep the conversation, with the state of the model
  /load FILE         go on with it, also in another process and on another device
  /fork [NAME]       go on in a copy; with the name of a copy, in that one; alone, list them
  /clear             begin anew
  /stats             tokens, speed, memory
  /exit              leave

Where standard input is no terminal every line of it is a message or a command, and the first failure ends the program: \
the answers are on standard output, everything else on standard error.

Examples:
  taipan chat
  taipan chat -m ibm-granite/granite-4.0-h-350m --system \"Be brief.\"
  printf 'Who are you?\\nWhy?\\n/stats\\n' | taipan chat -m DIR --temp 0";

/// Talk with a model
#[derive(Debug, clap::Args)]
#[command(after_long_help = CHAT_HELP)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// What the model is told before
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Tokens of an answer at most; -1 is no limit [default: 512]
    #[arg(short = 'n', long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) predict: Option<i64>,
    /// Print a JSON object for each answer instead of its text, one a line
    #[arg(long)]
    pub(crate) json: bool,
    // Last, because its heading holds for everything after it.
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

/// The part of the help that lists what can be typed.
pub(crate) fn commands() -> &'static str {
    let start = CHAT_HELP.find("Lines that begin").expect("it is there");
    let end = CHAT_HELP.find("\n\nWhere standard input").expect("it is there");
    &CHAT_HELP[start..end]
}
