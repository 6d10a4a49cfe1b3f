//! In place of the tokenizer in builds that need no texts: sessions are fed with token ids there.

mod stream;

use std::path::Path;

pub use stream::TextDecoder;

use crate::error::{Error, Result};

/// There is none.
#[derive(Clone, Debug)]
pub enum Tokenizer {}

impl Tokenizer {
    /// Refuses.
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn from_file(_: &Path) -> Result<Tokenizer> {
        Tokenizer::from_bytes(&[])
    }

    /// Refuses.
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn from_bytes(_: &[u8]) -> Result<Tokenizer> {
        Err(Error::Unsupported { what: "text, without the feature `tokenizer`,".to_owned() })
    }

    /// Of the tokenizer that there is not.
    ///
    /// # Errors
    /// None.
    pub fn encode(&self, _: &str) -> Result<Vec<u32>> {
        match *self {}
    }

    /// Of the tokenizer that there is not.
    ///
    /// # Errors
    /// None.
    pub fn decode(&self, _: &[u32]) -> Result<String> {
        match *self {}
    }

    /// Of the tokenizer that there is not.
    pub fn prefix(&self) -> &[u32] {
        match *self {}
    }

    /// Of the tokenizer that there is not.
    pub fn vocab_size(&self) -> usize {
        match *self {}
    }

    /// Of the tokenizer that there is not.
    pub fn id_of(&self, _: &str) -> Option<u32> {
        match *self {}
    }

    fn token_bytes(&self, _: u32) -> Option<Vec<u8>> {
        match *self {}
    }
}
