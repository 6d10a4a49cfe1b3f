//! Text to token ids and back.

mod stream;
#[cfg(test)]
mod tests;

use std::path::Path;

use tokenizers::{DecoderWrapper, ModelWrapper};

pub use stream::TextDecoder;

use crate::error::{Error, Result};

/// A tokenizer in the Hugging Face format (`tokenizer.json`).
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Whether a token stands for bytes, whatever its neighbours are.
    byte_level: bool,
    /// What its post-processor puts in front of a text.
    prefix: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// `Io` or `Tokenizer`.
    pub fn from_file(path: &Path) -> Result<Tokenizer> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        Tokenizer::from_bytes(&bytes).map_err(|e| match e {
            Error::Tokenizer { message, .. } => Error::Tokenizer { file: Some(path.display().to_string()), message },
            other => other,
        })
    }

    /// Parses the bytes of `tokenizer.json`.
    ///
    /// # Errors
    /// `Tokenizer`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Tokenizer> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(error)?;
        // A prompt is exactly its tokens: what the file says about batching and training does not apply.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(error)?;
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
        }
        let byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let prefix = prefix(&inner)?;
        Ok(Tokenizer { inner, byte_level, prefix })
    }

    /// The ids of a text. Special tokens written in it are recognised; nothing is added.
    ///
    /// # Errors
    /// `Tokenizer` if its model cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids that its post-processor puts in front of a text, which [`Tokenizer::encode`] does not add.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The text of the ids, without special tokens. Bytes that are not UTF-8 become U+FFFD; unknown ids are skipped.
    ///
    /// # Errors
    /// `Tokenizer`.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(error)
    }

    /// Number of ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token by its exact spelling in the vocabulary.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The bytes that a token adds to the text, where tokens are bytes; `None` where text depends on neighbours.
    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        if !self.byte_level {
            return None;
        }
        let Some(token) = self.inner.id_to_token(id) else { return Some(Vec::new()) };
        if self.inner.get_added_vocabulary().is_special_token(&token) {
            return Some(Vec::new());
        }
        // An added token is plain text; the decoder tells it by a character outside the table, and so do we.
        let bytes: Option<Vec<u8>> = token.chars().map(byte_of_char).collect();
        Some(bytes.unwrap_or_else(|| token.into_bytes()))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

/// What comes before a text is what comes before one of a single letter. What comes after is not wanted: a text goes on.
fn prefix(tokenizer: &tokenizers::Tokenizer) -> Result<Vec<u32>> {
    let ids = |specials| tokenizer.encode_fast("a", specials).map(|e| e.get_ids().to_vec());
    // A vocabulary without that letter, as tests have, has no post-processor either.
    let Ok(bare) = ids(false) else { return Ok(Vec::new()) };
    let mut whole = ids(true).map_err(error)?;
    let start = whole.windows(bare.len().max(1)).position(|part| part == bare);
    whole.truncate(start.unwrap_or(0));
    Ok(whole)
}

/// The byte that a character of a byte-level vocabulary stands for. Printable bytes of Latin-1 stand for themselves; the
/// other 68, in ascending order, are U+0100 and up.
fn byte_of_char(c: char) -> Option<u8> {
    match u32::from(c) {
        n @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(n as u8),
        n @ 0x100..=0x120 => Some((n - 0x100) as u8), // 0x00 ..= 0x20
        n @ 0x121..=0x142 => Some((n - 0x121) as u8 + 0x7f), // 0x7f ..= 0xa0
        0x143 => Some(0xad),
        _ => None,
    }
}

fn error(e: tokenizers::Error) -> Error {
    Error::Tokenizer { file: None, message: e.to_string() }
}
