//! How the parts of an error look in its one line.

use std::fmt;

/// Shows text that a file chose: control characters escaped (a terminal would obey them), long text cut.
pub(crate) struct Name<T>(pub(crate) T);

/// Enough for any real tensor name, and short enough for a line.
const SHOWN_CHARS: usize = 160;

impl<T: AsRef<str>> fmt::Display for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0.as_ref(), SHOWN_CHARS, f)
    }
}

/// Shows the path of a file: escaped as well, but whole, because what tells files apart is at the end.
pub(super) struct File<T>(pub(super) T);

/// As long as a path can be where there is a limit.
const PATH_CHARS: usize = 4096;

impl<T: AsRef<str>> fmt::Display for File<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0.as_ref(), PATH_CHARS, f)
    }
}

fn show(text: &str, most: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (shown, c) in text.chars().enumerate() {
        if shown == most {
            return f.write_str("…");
        }
        if must_escape(c) { write!(f, "{}", c.escape_unicode())? } else { write!(f, "{c}")? }
    }
    Ok(())
}

/// Control characters, and the invisible ones that reorder the text around them.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

pub(super) struct Tokenizing<'a>(pub(super) Option<&'a str>);

impl fmt::Display for Tokenizing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(file) => write!(f, "{}: not a tokenizer", File(file)),
            None => f.write_str("tokenizer"),
        }
    }
}

pub(super) struct Allocating(pub(super) Option<u64>);

impl fmt::Display for Allocating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |bytes| write!(f, " while allocating {bytes} bytes"))
    }
}

pub(super) struct AndMore(pub(super) usize);

impl fmt::Display for AndMore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, " (and {} more like it)", self.0) } else { Ok(()) }
    }
}

pub(super) struct List<'a>(pub(super) &'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}
