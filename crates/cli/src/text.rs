//! Reading text: prompts at once, long files piece by piece.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use taipan::Tokenizer;

use crate::failure::{Failure, Result};
use crate::settings::PromptSource;

/// Reads a prompt, exactly as it is there.
///
/// # Errors
/// It cannot be read or is not UTF-8; `Usage` if it would have to be typed.
pub(crate) fn read(source: &PromptSource) -> Result<String> {
    let (name, bytes) = match source {
        PromptSource::Text(text) => return Ok(text.clone()),
        PromptSource::File(path) => {
            let read = std::fs::read(path);
            let bytes = read.map_err(|source| Failure::Read { path: path.clone(), source })?;
            (path.display().to_string(), bytes)
        }
        PromptSource::Stdin => ("standard input".to_owned(), read_stdin()?),
    };
    String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to() as u64;
        Failure::NotUtf8 { name, offset }
    })
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut stdin = io::stdin().lock();
    if stdin.is_terminal() {
        let hint = "give a text, -p TEXT or -f FILE, or pipe one in; `taipan generate --help` has examples";
        return Err(Failure::usage("there is no prompt", hint));
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).map_err(|source| Failure::Stream { name: "standard input", source })?;
    Ok(bytes)
}

/// Drops one newline at the end, which editors and `echo` add and no one means as part of a prompt.
pub(crate) fn without_final_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Bytes of text encoded at a time.
const BLOCK: usize = 256 << 10;

/// On each side of a cut, so much text is encoded with and without the cut to see that it changes nothing.
const SEEN: usize = 128;

/// Places for a cut that are tried before the block is made larger.
const TRIES: usize = 32;

/// The ids of a text of any length, in memory that does not grow with it.
///
/// A tokenizer takes a whole text, so the text is cut where that makes no difference: in front of a blank, and only if the
/// text around the cut has the same ids in one piece as in two. Where no such place is found, as with a
/// tokenizer that marks the beginning of a text, the piece grows, if need be to the whole.
pub(crate) struct TokenReader<'a, R> {
    reader: R,
    name: String,
    tokenizer: &'a Tokenizer,
    block: usize,
    /// Text that is not encoded yet.
    text: String,
    /// The beginning of a character whose rest is not read yet.
    partial: Vec<u8>,
    bytes_read: u64,
    at_end: bool,
}

impl<'a> TokenReader<'a, File> {
    /// Starts at the beginning of a file; also gives its length.
    ///
    /// # Errors
    /// `Read`.
    pub(crate) fn open(path: &Path, tokenizer: &'a Tokenizer) -> Result<(Self, u64)> {
        let fail = |source| Failure::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        Ok((TokenReader::new(file, path.display().to_string(), tokenizer, BLOCK), len))
    }
}

impl<'a, R: Read> TokenReader<'a, R> {
    fn new(reader: R, name: String, tokenizer: &'a Tokenizer, block: usize) -> Self {
        let (text, partial) = (String::new(), Vec::new());
        TokenReader { reader, name, tokenizer, block, text, partial, bytes_read: 0, at_end: false }
    }

    /// Bytes of the file that were read so far; at the end, its length.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Bytes of the file whose ids were handed out.
    pub(crate) fn bytes_encoded(&self) -> u64 {
        self.bytes_read - (self.text.len() + self.partial.len()) as u64
    }

    /// The ids of the next piece; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read or is not UTF-8, or the tokenizer fails.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Vec<u32>>> {
        let mut wanted = self.block;
        loop {
            self.fill(wanted)?;
            if self.at_end {
                let text = std::mem::take(&mut self.text);
                return Ok(if text.is_empty() { None } else { Some(self.tokenizer.encode(&text)?) });
            }
            if let Some(cut) = self.find_cut()? {
                let rest = self.text.split_off(cut);
                let piece = std::mem::replace(&mut self.text, rest);
                return Ok(Some(self.tokenizer.encode(&piece)?));
            }
            wanted = 2 * self.text.len().max(wanted);
        }
    }

    /// Reads until there is so much text, or no more.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        let mut buffer = vec![0; self.block.min(64 << 10)];
        while self.text.len() < wanted && !self.at_end {
            let read = loop {
                match self.reader.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            let count = read.map_err(|source| Failure::Read { path: self.name.clone().into(), source })?;
            self.at_end = count == 0;
            self.partial.extend_from_slice(&buffer[..count]);
            let valid = match std::str::from_utf8(&self.partial) {
                Ok(text) => text.len(),
                Err(e) if e.error_len().is_none() && !self.at_end => e.valid_up_to(),
                Err(e) => return Err(self.not_utf8(count, e.valid_up_to())),
            };
            let rest = self.partial.split_off(valid);
            let valid = std::mem::replace(&mut self.partial, rest);
            self.text.push_str(&String::from_utf8_lossy(&valid));
            self.bytes_read += count as u64;
        }
        Ok(())
    }

    fn not_utf8(&self, count: usize, valid: usize) -> Failure {
        let start = self.bytes_read + count as u64 - self.partial.len() as u64;
        Failure::NotUtf8 { name: self.name.clone(), offset: start + valid as u64 }
    }

    /// A place late in the text where cutting it changes no id.
    fn find_cut(&self) -> Result<Option<usize>> {
        let text = &self.text;
        let end = text.floor_char_boundary(text.len().saturating_sub(SEEN));
        let places = text[..end].char_indices().rev().filter(|(at, c)| {
            c.is_whitespace() && text[..*at].chars().next_back().is_some_and(|before| !before.is_whitespace())
        });
        for (cut, _) in places.take(TRIES) {
            let from = text.ceil_char_boundary(cut.saturating_sub(SEEN));
            let to = text.floor_char_boundary(cut + SEEN);
            let mut halves = self.tokenizer.encode(&text[from..cut])?;
            halves.extend(self.tokenizer.encode(&text[cut..to])?);
            if halves == self.tokenizer.encode(&text[from..to])? {
                return Ok(Some(cut));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        let bytes = crate::embedded::files().tokenizer.expect("it has one");
        Tokenizer::from_bytes(&bytes).expect("it is valid")
    }

    fn pieces(text: &[u8], block: usize) -> Result<Vec<Vec<u32>>> {
        let tokenizer = tokenizer();
        let mut reader = TokenReader::new(text, "test".to_owned(), &tokenizer, block);
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            pieces.push(piece);
        }
        assert_eq!(reader.bytes_read(), text.len() as u64);
        Ok(pieces)
    }

    #[test]
    fn pieces_are_the_whole() {
        let text = include_str!("../model/heldout.txt");
        let whole = tokenizer().encode(text).expect("it is text");
        for block in [10, 300, 777, 5000, 1 << 20] {
            let pieces = pieces(text.as_bytes(), block).expect("it is text");
            assert_eq!(pieces.concat(), whole, "block of {block}");
            assert!(block > text.len() || pieces.len() > 2, "block of {block}: {} pieces", pieces.len());
        }
    }

    #[test]
    fn text_without_blanks_is_one_piece() {
        let text = "abc".repeat(3000);
        let pieces = pieces(text.as_bytes(), 100).expect("it is text");
        assert_eq!(pieces, [tokenizer().encode(&text).expect("it is text")]);
    }

    #[test]
    fn nothing_has_no_piece() {
        assert!(pieces(b"", 100).expect("it is text").is_empty());
    }

    #[test]
    fn characters_across_reads_survive() {
        let text = "ünï çödé ".repeat(9000); // the ends of some reads fall inside characters
        let ids = pieces(text.as_bytes(), 1000).expect("it is text").concat();
        assert_eq!(ids, tokenizer().encode(&text).expect("it is text"));
    }

    #[test]
    fn the_first_bad_byte_is_named() {
        let mut text = "good text ".repeat(5000).into_bytes();
        let at = 33_333;
        text[at] = 0xff;
        let offset = |text: &[u8]| match pieces(text, 1000) {
            Err(Failure::NotUtf8 { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(offset(&text), at as u64);
        assert_eq!(offset(b"cut short \xe2\x82"), 10);
    }

    #[test]
    fn only_one_newline_is_dropped() {
        let cases = [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", ""), ("a\r", "a\r")];
        for (given, expected) in cases {
            assert_eq!(without_final_newline(given.to_owned()), expected);
        }
    }
}
