//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::{Failure, Result};
use crate::interrupt::AtOnce;

/// Whether somebody can be asked.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question to which no answer means no. Only to be called where that is possible.
///
/// # Errors
/// `Stream` if the answer cannot be read.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    let _at_once = AtOnce::new();
    let mut err = io::stderr().lock();
    // If the question cannot be shown, no answer comes either.
    let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|source| Failure::Stream { name: "standard input", source })?;
    Ok(["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()))
}
