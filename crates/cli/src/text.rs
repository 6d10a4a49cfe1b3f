//! Reading text: prompts at once, long files piece by piece.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use taipan::{Error, Gguf, Model, Tokenizer};
use taipan_chat::{ChatError, ChatTemplate};

use crate::failure::{Failure, Result};
use crate::interrupt;
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
            let bytes = read.map_err(|source| Failure::read(path, source))?;
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

/// The chat template of a model's folder or GGUF file, if it has one.
///
/// # Errors
/// The GGUF file cannot be read.
pub(crate) fn template(model: Option<&Path>) -> Result<Option<Result<ChatTemplate, ChatError>>> {
    let template = match model {
        Some(file) if Gguf::is(file) => {
            ChatTemplate::from_files(Some(&Gguf::open(file)?.description.tokenizer_config), None)
        }
        Some(dir) => ChatTemplate::from_dir(dir),
        None => Ok(None),
    };
    Ok(template.transpose())
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

/// Places for a cut of each kind that are tried before the block is made larger.
const TRIES: usize = 32;

/// So much larger a block may become.
const GROWTH: usize = 16;

/// The ids of a prompt.
///
/// # Errors
/// `NoTokenizer`, what the tokenizer says, and `Interrupted`: a long prompt takes a while.
pub(crate) fn encode_start(model: &Model, prompt: &str) -> Result<Vec<u32>> {
    let mut ids = model.prefix().to_vec();
    ids.extend(encode(model, prompt)?);
    Ok(ids)
}

/// The ids of a text and nothing else.
///
/// # Errors
/// As [`encode_start`].
pub(crate) fn encode(model: &Model, prompt: &str) -> Result<Vec<u32>> {
    let tokenizer = model.tokenizer().ok_or(Error::NoTokenizer)?;
    let mut reader = TokenReader::new(prompt.as_bytes(), "the prompt".to_owned(), tokenizer, BLOCK);
    // All of it is in memory anyway.
    reader.most = usize::MAX;
    let mut ids = Vec::new();
    while let Some(piece) = reader.next_piece()? {
        ids.extend(piece);
    }
    Ok(ids)
}

/// A place where a text may be cut: the left part ends at `left`, the right one begins at `right`. Between them is nothing,
/// or a blank that the tokenizer itself puts in front of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    left: usize,
    right: usize,
}

/// The ids of a text of any length, in memory that does not grow with it.
///
/// A tokenizer takes a whole text, so the text is cut where that makes no difference: at a blank, if the text around the
/// cut has the same ids in one piece as in two; without one between any two characters, if all of the block has. Where no
/// such place is found the block grows, up to a limit.
pub(crate) struct TokenReader<'a, R> {
    reader: R,
    name: String,
    tokenizer: &'a Tokenizer,
    block: usize,
    /// The most text that is looked at for a place to cut.
    most: usize,
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
        let fail = |source| Failure::read(path, source);
        let file = File::open(path).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        Ok((TokenReader::new(file, path.display().to_string(), tokenizer, BLOCK), len))
    }
}

impl<'a, R: Read> TokenReader<'a, R> {
    fn new(reader: R, name: String, tokenizer: &'a Tokenizer, block: usize) -> Self {
        let (text, partial) = (String::new(), Vec::new());
        let most = GROWTH * block;
        TokenReader { reader, name, tokenizer, block, most, text, partial, bytes_read: 0, at_end: false }
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
    /// The file cannot be read or is not UTF-8, the tokenizer fails, no place to cut the text is found, or `Interrupted`.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Vec<u32>>> {
        let mut wanted = self.block;
        loop {
            interrupt::check()?;
            self.fill(wanted)?;
            if self.at_end {
                let text = std::mem::take(&mut self.text);
                return Ok(if text.is_empty() { None } else { Some(self.tokenizer.encode(&text)?) });
            }
            if let Some(cut) = self.find_cut()? {
                let ids = self.tokenizer.encode(&self.text[..cut.left])?;
                self.text.drain(..cut.right);
                return Ok(Some(ids));
            }
            if self.text.len() >= self.most {
                return Err(self.no_cut());
            }
            wanted = (2 * self.text.len().max(wanted)).min(self.most);
        }
    }

    fn no_cut(&self) -> Failure {
        let (len, at) = (self.text.len(), self.bytes_encoded());
        let message = format!("{}: no place to cut was found in {len} bytes from byte {at} on", self.name);
        let hint = "this tokenizer takes such a text only as a whole; put blanks in it, or measure parts of it";
        Failure::Input { message, hint: hint.to_owned() }
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
            let count = read.map_err(|source| Failure::read(&self.name, source))?;
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
    fn find_cut(&self) -> Result<Option<Cut>> {
        let text = &self.text;
        let end = text.floor_char_boundary(text.len().saturating_sub(SEEN));
        let blanks = text[..end].char_indices().rev().filter(|(at, c)| {
            c.is_whitespace() && text[..*at].chars().next_back().is_some_and(|before| !before.is_whitespace())
        });
        for (at, blank) in blanks.take(TRIES) {
            interrupt::check()?;
            for right in [at, at + blank.len_utf8()] {
                let cut = Cut { left: at, right };
                let from = text.ceil_char_boundary(at.saturating_sub(SEEN));
                if self.agrees(from, cut, text.floor_char_boundary(at + SEEN))? {
                    return Ok(Some(cut));
                }
            }
        }
        // Without a blank what is far away can matter, as in a long row of one letter: the whole block must agree.
        let places = text[..end].char_indices().rev().map(|(at, _)| at).filter(|at| *at > 0);
        for at in places.take(TRIES) {
            interrupt::check()?;
            let cut = Cut { left: at, right: at };
            let from = text.ceil_char_boundary(at.saturating_sub(SEEN));
            if self.agrees(from, cut, text.floor_char_boundary(at + SEEN))? && self.agrees(0, cut, text.len())? {
                return Ok(Some(cut));
            }
        }
        Ok(None)
    }

    /// Whether the text `from..to` has the same ids in one piece as in two.
    fn agrees(&self, from: usize, cut: Cut, to: usize) -> Result<bool> {
        let mut halves = self.tokenizer.encode(&self.text[from..cut.left])?;
        halves.extend(self.tokenizer.encode(&self.text[cut.right..to])?);
        Ok(halves == self.tokenizer.encode(&self.text[from..to])?)
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
    fn text_without_blanks_is_cut_where_it_changes_nothing() {
        // The last one has tokens of many letters, so that most places would shift all that follow.
        for text in ["abc".repeat(9000), "日本語の文字".repeat(1500), "a".repeat(20_000)] {
            let pieces = pieces(text.as_bytes(), 1000).expect("it is text");
            assert!(pieces.len() > 10, "{} pieces of {:?}…", pieces.len(), &text[..9]);
            assert_eq!(pieces.concat(), tokenizer().encode(&text).expect("it is text"));
        }
    }

    /// A tokenizer that puts a blank in front of every text, as those of the Llama family do.
    fn prefixing() -> Tokenizer {
        let words = ["▁", "a", "b", "▁a", "▁b", "▁ab", "ab"];
        let vocab: serde_json::Map<_, _> = words.iter().zip(0..).map(|(w, i)| ((*w).to_owned(), i.into())).collect();
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": [], "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "▁" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "▁" } ] },
            "model": { "type": "BPE", "vocab": vocab, "merges": [["▁", "a"], ["▁", "b"], ["▁a", "b"], ["a", "b"]] }
        });
        Tokenizer::from_bytes(json.to_string().as_bytes()).expect("it is valid")
    }

    #[test]
    fn a_tokenizer_that_marks_the_beginning_is_cut_at_blanks_or_told_that_it_cannot_be() {
        let tokenizer = prefixing();
        let text = "ab b a ".repeat(500);
        let mut reader = TokenReader::new(text.as_bytes(), "test".to_owned(), &tokenizer, 600);
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next_piece().expect("there are blanks") {
            pieces.push(piece);
        }
        assert!(pieces.len() > 3, "{} pieces", pieces.len());
        assert_eq!(pieces.concat(), tokenizer.encode(&text).expect("it is text"));

        let text = "ab".repeat(100_000);
        let mut reader = TokenReader::new(text.as_bytes(), "test".to_owned(), &tokenizer, 600);
        match reader.next_piece() {
            Err(Failure::Input { message, .. }) => {
                assert!(message.contains("no place to cut was found in "), "{message}");
                assert!(reader.text.len() < 2 * GROWTH * 600 + (64 << 10), "{} bytes were read", reader.text.len());
            }
            other => panic!("{other:?}"),
        }
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
