//! GGUF: a model in one file, as llama.cpp has it.
//!
//! The metadata becomes the config.json and the tokenizer.json of the same model elsewhere, and the tensors take the names
//! that its family has there; everything after that is as with any checkpoint.

mod blocks;
mod config;
mod header;
mod names;
mod tokenizer;

use std::borrow::Cow;
use std::path::Path;

use super::Weights;
use super::map::Bytes;
use crate::config::Config;
use crate::error::{Error, Result};
use header::{Header, Value};

/// A model from a GGUF file.
#[derive(Debug)]
pub struct Gguf {
    /// What config.json would say.
    pub config: Vec<u8>,
    /// The weights: floats as they lie in the file, 32 numbers with a scale as ours, everything else as f16.
    pub weights: Weights,
    /// What tokenizer.json would say, if the file has a tokenizer.
    pub tokenizer: Option<Vec<u8>>,
    /// What tokenizer_config.json would say: the template of a chat, and tokens by name.
    pub tokenizer_config: Vec<u8>,
}

impl Gguf {
    /// Whether a path leads to such a file, by its name.
    #[must_use]
    pub fn is(path: &Path) -> bool {
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
    }

    /// Opens a file. It is mapped, not read; what has to be converted is, here.
    ///
    /// # Errors
    /// `Io`, `Weights`, `UnsupportedModel`, or those of [`Config::from_json`].
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = super::open::map_file(path)?;
        Self::read(&super::open::file_name(path), bytes).map_err(|e| e.in_dir(path.parent().unwrap_or(path)))
    }

    /// What tokenizer_config.json would say; nothing else is looked at.
    ///
    /// # Errors
    /// `Io` or `Weights`.
    pub fn tokenizer_config(path: &Path) -> Result<Vec<u8>> {
        let bytes = super::open::map_file(path)?;
        let header = header::parse(&bytes).map_err(|problem| Error::weights(&super::open::file_name(path), problem))?;
        Ok(tokenizer::config(&header).to_string().into_bytes())
    }

    /// Takes a file that is in memory.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_bytes(name: &str, bytes: Cow<'static, [u8]>) -> Result<Self> {
        Self::read(name, Bytes::InMemory(bytes))
    }

    fn read(name: &str, bytes: Bytes) -> Result<Self> {
        let fail = |problem| Error::weights(name, problem);
        let header = header::parse(&bytes).map_err(fail)?;
        let config = config::json(&header).map_err(|e| e.at(name))?.to_string().into_bytes();
        let parsed = Config::from_json(&config).map_err(|e| e.of_file(name))?;
        let tokenizer = tokenizer::json(&header).map_err(fail)?.map(|json| json.to_string().into_bytes());
        let tokenizer_config = tokenizer::config(&header).to_string().into_bytes();
        let (tensors, converted) = names::tensors(name, &header, &bytes, &parsed).map_err(fail)?;
        let len = bytes.len() as u64;
        let mut data = vec![bytes];
        data.extend(converted.into_iter().map(|bytes| Bytes::InMemory(bytes.into())));
        let headers = super::Headers::new(tensors, vec![(name.to_owned(), len)])?;
        Ok(Self { config, weights: Weights { headers, data }, tokenizer, tokenizer_config })
    }
}

fn text<'a>(header: &Header<'a>, key: &str) -> Option<&'a str> {
    match header.metadata.get(key) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn integer(header: &Header<'_>, key: &str) -> Option<u64> {
    match header.metadata.get(key) {
        Some(Value::Integer(n)) => u64::try_from(*n).ok(),
        _ => None,
    }
}

fn flag(header: &Header<'_>, key: &str) -> Option<bool> {
    match header.metadata.get(key) {
        Some(Value::Bool(b)) => Some(*b),
        _ => None,
    }
}

fn list<'h, 'a>(header: &'h Header<'a>, key: &str) -> Option<&'h [Value<'a>]> {
    match header.metadata.get(key) {
        Some(Value::List(list)) => Some(list),
        _ => None,
    }
}
