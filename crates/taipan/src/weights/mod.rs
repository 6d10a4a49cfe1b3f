//! Weights: safetensors files, single or sharded, or an archive of PyTorch; in memory or mapped from disk.
//!
//! A file is either exactly what the format allows or an error that says why; see [`WeightsProblem`]. This module knows
//! names, shapes and stored numbers; it does not know layers, and it computes nothing.

mod dtype;
mod gguf;
mod header;
mod map;
mod open;
mod pickle;
mod problem;
mod pytorch;
pub(crate) mod quantised;
mod shards;
mod source;
mod tensor;
#[cfg(test)]
mod tests;
pub(crate) mod write;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

pub use dtype::{Dtype, ElementType};
pub use gguf::{Gguf, GgufDescription};
pub use problem::WeightsProblem;
pub(crate) use source::{Fetched, resolve};
pub use source::{FileStart, RangedWeights, WeightSource};
pub use tensor::{Tensor, TensorInfo};
pub use write::{TensorData, header, serialize};

use crate::config::{Config, HEAD};
use crate::error::{Error, Result};
use map::Bytes;

/// What the headers of a checkpoint say; no weight is read for it.
#[derive(Debug, Clone)]
pub struct Headers {
    /// All tensors, file by file, in file order.
    pub tensors: Vec<TensorInfo>,
    /// Name and size in bytes of each file.
    pub files: Vec<(String, u64)>,
    by_name: HashMap<String, usize>,
}

/// The weights of a checkpoint.
#[derive(Debug)]
pub struct Weights {
    headers: Headers,
    data: Vec<Bytes>,
}

impl Headers {
    fn new(tensors: Vec<TensorInfo>, files: Vec<(String, u64)>) -> Result<Headers> {
        let mut by_name = HashMap::with_capacity(tensors.len());
        for (i, t) in tensors.iter().enumerate() {
            if let Some(first) = by_name.insert(t.name.clone(), i) {
                let (tensor, b) = (t.name.clone(), t.file.to_string());
                let a = tensors[first].file.to_string();
                let problem = WeightsProblem::InTwoShards { tensor, a, b };
                return Err(Error::weights(&t.file, problem));
            }
        }
        Ok(Headers { tensors, files, by_name })
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// `TensorMissing`.
    pub fn get(&self, name: &str) -> Result<&TensorInfo> {
        let index = self.by_name.get(name).ok_or_else(|| Error::TensorMissing {
            name: name.to_owned(),
            file: self.file_names(),
            more: 0,
        })?;
        Ok(&self.tensors[*index])
    }

    /// Checks that the files hold exactly the tensors that the config calls for, in the right shapes and in types that
    /// a weight may have. Tables that other implementations store along (rotary frequencies, `mtp.` heads) are let pass.
    ///
    /// # Errors
    /// `TensorMissing`, `TensorShape`, `TensorDtype` or `TensorUnexpected`, in this order.
    pub fn check(&self, config: &Config) -> Result<()> {
        let mut expected = config.expected_tensors();
        if self.stores_tied_head(config) {
            expected.push((HEAD.to_owned(), vec![config.vocab_size, config.hidden_size]));
        }
        let mut missing = expected.iter().filter(|(name, _)| !self.by_name.contains_key(name));
        if let Some((name, _)) = missing.next() {
            let (name, file) = (name.clone(), self.file_names());
            return Err(Error::TensorMissing { name, file, more: missing.count() });
        }
        for (name, shape) in &expected {
            let info = self.get(name)?;
            if !info.holds(shape) {
                return Err(Error::TensorShape {
                    name: name.clone(),
                    file: info.file.to_string(),
                    expected: shape.clone(),
                    found: info.shape.clone(),
                });
            }
            info.dtype()?;
        }
        let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let is_extra = |t: &&TensorInfo| !known.contains(t.name.as_str()) && !is_harmless(&t.name);
        let mut extra = self.tensors.iter().filter(is_extra);
        match extra.next() {
            None => Ok(()),
            Some(t) => {
                let (name, file) = (t.name.clone(), t.file.to_string());
                Err(Error::TensorUnexpected { name, file, more: extra.count() })
            }
        }
    }

    /// Whether there is a head although the config ties it to the embedding.
    fn stores_tied_head(&self, config: &Config) -> bool {
        let allowed = config.tie_word_embeddings && config.family.may_store_tied_head();
        allowed && self.by_name.contains_key(HEAD)
    }

    /// Bytes of all tensors as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::stored_bytes).sum()
    }

    fn file_names(&self) -> String {
        match self.files.as_slice() {
            [(name, _)] => name.clone(),
            [(first, _), rest @ ..] => format!("{first} and {} more file(s)", rest.len()),
            [] => "no file".to_owned(),
        }
    }
}

/// Tensors that are computed from the config or belong to a part that is not run.
fn is_harmless(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name.starts_with("mtp.")
}

impl Weights {
    /// What the headers say.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// See [`Headers::check`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, config: &Config) -> Result<()> {
        self.headers.check(config)
    }

    /// The config with its head untied where the files hold one that differs from the embedding: what is stored counts.
    ///
    /// # Errors
    /// `TensorMissing`.
    pub(crate) fn resolve(&self, config: &Config) -> Result<Config> {
        let mut config = config.clone();
        if self.headers.stores_tied_head(&config) {
            let ((info, embedding), (other, head)) = (self.get_raw(config.embedding_tensor())?, self.get_raw(HEAD)?);
            let same_place = info.file_index == other.file_index && info.range == other.range;
            config.tie_word_embeddings = info.element == other.element && (same_place || embedding == head);
        }
        Ok(config)
    }

    /// The weight of this name.
    ///
    /// # Errors
    /// `TensorMissing`, or `TensorDtype` if it is stored in a type that no weight has.
    pub fn get(&self, name: &str) -> Result<Tensor<'_>> {
        let (info, bytes) = self.get_raw(name)?;
        let scales = info.quantised.as_ref().map_or(&[][..], |(_, range)| self.part(info.file_index, range));
        Ok(Tensor { info, dtype: info.dtype()?, bytes, scales })
    }

    /// The stored bytes of a tensor of any type.
    ///
    /// # Errors
    /// `TensorMissing`.
    pub fn get_raw(&self, name: &str) -> Result<(&TensorInfo, &[u8])> {
        let info = self.headers.get(name)?;
        Ok((info, self.part(info.file_index, &info.range)))
    }

    /// A range of a header, which was checked against the length of that very file.
    fn part(&self, file: usize, range: &Range<u64>) -> &[u8] {
        &self.data[file][range.start as usize..range.end as usize]
    }
}
