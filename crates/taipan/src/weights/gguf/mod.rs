//! GGUF: a model in one file, as llama.cpp has it.
//!
//! The metadata becomes the config.json and the tokenizer.json of the same model elsewhere, and the tensors take the names
//! that its family has there; everything after that is as with any checkpoint.

mod blocks;
mod config;
mod convert;
mod header;
mod keys;
mod names;
mod tokenizer;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::map::Bytes;
use super::{Fetched, Headers, WeightSource, Weights};
use crate::config::Config;
use crate::error::{Error, Result};
use convert::Made;
use header::{Header, Value};

/// A model from a GGUF file. Its weights are made as they are asked for: floats as they lie in the file, 32 integers with a
/// scale as ours, everything else as f16.
#[derive(Debug)]
pub struct Gguf {
    /// What the file says of itself.
    pub description: GgufDescription,
    bytes: Bytes,
    made: Vec<(Range<u64>, Made)>,
    /// What was made last, by its place: a matrix is asked for piece by piece.
    recent: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

/// What a GGUF file says of itself, in the words of a model folder.
#[derive(Debug)]
pub struct GgufDescription {
    /// What config.json would say.
    pub config: Vec<u8>,
    /// What tokenizer.json would say, if the file has a tokenizer.
    pub tokenizer: Option<Vec<u8>>,
    /// What tokenizer_config.json would say: the template of a chat, and tokens by name.
    pub tokenizer_config: Vec<u8>,
    /// The tensors of the model.
    pub headers: Headers,
}

/// Tensors that are kept after they were made: those that a matrix is read from in turn.
const RECENT: usize = 3;

impl Gguf {
    /// Whether a path leads to such a file, by its name.
    #[must_use]
    pub fn is(path: &Path) -> bool {
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
    }

    /// The GGUF file that a path stands for: itself, or the only one in a folder that has no other weights.
    ///
    /// # Errors
    /// `SeveralFiles` if there are several, or `Io`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn find(path: &Path) -> Result<Option<std::path::PathBuf>> {
        if Self::is(path) || !path.is_dir() {
            return Ok(Self::is(path).then(|| path.to_owned()));
        }
        if super::open::has_weights(path)? {
            return Ok(None);
        }
        let fail = |e| Error::io("read", path, e);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let file = entry.map_err(fail)?.path();
            if Self::is(&file) && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        match &files[..] {
            [] => Ok(None),
            [file] => Ok(Some(file.clone())),
            _ => {
                let files = files.iter().map(|file| super::open::file_name(file)).collect();
                Err(Error::SeveralFiles { dir: path.to_owned(), files })
            }
        }
    }

    /// Opens a file. It is mapped, not read.
    ///
    /// # Errors
    /// `Io`, `Weights`, `UnsupportedModel`, or those of [`Config::from_json`].
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = super::open::map_file(path)?;
        Self::read(&super::open::file_name(path), bytes).map_err(|e| e.in_dir(path.parent().unwrap_or(path)))
    }

    /// Takes a file that is in memory.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_bytes(name: &str, bytes: Cow<'static, [u8]>) -> Result<Self> {
        Self::read(name, Bytes::InMemory(bytes))
    }

    fn read(name: &str, bytes: Bytes) -> Result<Self> {
        let (description, made) = describe(name, &bytes, bytes.len() as u64)?;
        Ok(Self { description, bytes, made, recent: Mutex::default() })
    }

    /// All weights, in memory.
    ///
    /// # Errors
    /// None that a file that could be opened has.
    pub async fn weights(&self) -> Result<Weights> {
        let mut parts = Vec::new();
        for info in &self.description.headers.tensors {
            parts.push(Fetched::whole(self, &info.name).await?);
        }
        Weights::of_rows(parts)
    }

    /// What lies at a place behind the end of the file, as a whole, and where it begins.
    fn make(&self, place: &Range<u64>) -> Option<(u64, Arc<Vec<u8>>)> {
        let index = self.made.partition_point(|(range, _)| range.end <= place.start);
        let (range, made) =
            self.made.get(index).filter(|(range, _)| range.start <= place.start && place.end <= range.end)?;
        let lock = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().iter().find(|(start, _)| *start == range.start) {
            return Some(found.clone());
        }
        let fresh = (range.start, Arc::new(made.bytes(&self.bytes)));
        let mut recent = lock();
        recent.truncate(RECENT - 1);
        recent.push_front(fresh.clone());
        Some(fresh)
    }
}

impl WeightSource for Gguf {
    fn headers(&self) -> &Headers {
        &self.description.headers
    }

    async fn read(&self, _: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let part = |bytes: &[u8], start: u64| {
            bytes.get((range.start - start) as usize..(range.end - start) as usize).map(<[u8]>::to_vec)
        };
        let found = if range.end <= self.bytes.len() as u64 {
            part(&self.bytes, 0)
        } else {
            self.make(&range).and_then(|(start, bytes)| part(&bytes, start))
        };
        Ok(found.unwrap_or_default())
    }
}

impl GgufDescription {
    /// Reads the beginning of a file of this length; where it is too short the error is `Weights` of `HeaderTruncated`, which
    /// tells how many bytes it takes at least.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn parse(name: &str, start: &[u8], len: u64) -> Result<Self> {
        Ok(describe(name, start, len)?.0)
    }
}

type Places = Vec<(Range<u64>, Made)>;

fn describe(name: &str, bytes: &[u8], len: u64) -> Result<(GgufDescription, Places)> {
    let fail = |problem| Error::weights(name, problem);
    let header = header::parse(bytes, len).map_err(fail)?;
    let config = config::json(&header).map_err(|e| e.at(name))?.to_string().into_bytes();
    let parsed = Config::from_json(&config).map_err(|e| e.of_file(name))?;
    let tokenizer = tokenizer::json(&header).map_err(fail)?.map(|json| json.to_string().into_bytes());
    let tokenizer_config = tokenizer::config(&header).to_string().into_bytes();
    let names::Plan { tensors, made } = names::plan(name, &header, &parsed, len).map_err(fail)?;
    let headers = Headers::new(tensors, vec![(name.to_owned(), len)])?;
    Ok((GgufDescription { config, tokenizer, tokenizer_config, headers }, made))
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

/// Layers behind the last that predict further tokens.
fn further_layers(header: &Header<'_>) -> usize {
    let layers = integer(header, &format!("{}.nextn_predict_layers", config::NEMOTRON_MOE));
    layers.and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(1 << 16)
}
