//! Text of a growing list of ids.

use super::Tokenizer;
use crate::error::Result;

/// Turns ids into text one at a time, never splitting a character: what could still become part of one is held back.
///
/// For byte-level vocabularies (all that this crate's own models use) the pieces joined are exactly
/// [`Tokenizer::decode`] of all ids, and at most three bytes are ever held. For others the text of a token depends on
/// its neighbours; a short window of ids is decoded again at each step.
///
/// All fields are plain data, so that a session can save them; values from elsewhere cannot make it panic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextDecoder {
    /// Byte-level vocabularies: the start of a character whose rest has not come.
    pub bytes: Vec<u8>,
    /// Other vocabularies: the ids of the last returned text, then those held back. The former give the latter their
    /// context, since a decoder may treat the first token of a list in its own way.
    pub ids: Vec<u32>,
    /// Number of `ids` whose text has been returned.
    pub shown: usize,
}

/// The most ids to hold back. A longer run ending in U+FFFD is not an unfinished character.
const MAX_HELD: usize = 8;

impl TextDecoder {
    /// The text that became final with this id; often a word, sometimes nothing.
    ///
    /// # Errors
    /// `Tokenizer`.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        match tokenizer.token_bytes(id) {
            Some(bytes) => {
                self.bytes.extend(bytes);
                Ok(self.take_text(false))
            }
            None => {
                self.ids.push(id);
                self.take_new(tokenizer, false)
            }
        }
    }

    /// What is still held, as decoding the whole would end; afterwards nothing is held.
    ///
    /// # Errors
    /// `Tokenizer`.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let mut text = self.take_text(true);
        text += &self.take_new(tokenizer, true)?;
        Ok(text)
    }

    /// Takes the bytes whose text no later byte can change.
    pub(super) fn take_text(&mut self, all: bool) -> String {
        let held = if all { 0 } else { incomplete_tail(&self.bytes) };
        let rest = self.bytes.split_off(self.bytes.len() - held);
        let done = std::mem::replace(&mut self.bytes, rest);
        String::from_utf8_lossy(&done).into_owned()
    }

    /// Decodes the shown ids alone and together with the held ones; the difference is the new text.
    fn take_new(&mut self, tokenizer: &Tokenizer, all: bool) -> Result<String> {
        let shown = self.shown.min(self.ids.len());
        let held = self.ids.len() - shown;
        if held == 0 {
            return Ok(String::new());
        }
        let before = tokenizer.decode(&self.ids[..shown])?;
        let text = tokenizer.decode(&self.ids)?;
        let unfinished = text.ends_with('\u{fffd}') || text.len() <= before.len();
        if unfinished && !all && held < MAX_HELD {
            return Ok(String::new());
        }
        // A decoder may revise its earlier text; what was returned cannot be taken back, so only the rest counts.
        let new = text.strip_prefix(&before).unwrap_or_else(|| {
            let common = before.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
            &text[text.floor_char_boundary(common)..]
        });
        if new.is_empty() {
            self.ids.truncate(shown);
        } else {
            // The context starts where text was complete: inside a character it would decode to something else.
            self.ids.drain(..shown);
        }
        self.shown = self.ids.len();
        Ok(new.to_owned())
    }
}

/// Bytes at the end that are the beginning of a character and may yet be completed.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Err(e) = std::str::from_utf8(rest) {
        let valid = e.valid_up_to();
        match e.error_len() {
            None => return rest.len() - valid,
            Some(bad) => rest = &rest[valid + bad..],
        }
    }
    0
}
