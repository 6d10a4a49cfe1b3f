//! `model.safetensors.index.json` and `pytorch_model.bin.index.json`: which file holds which tensor.
//!
//! The index comes from the same stranger as the weights, so it may name only files beside itself.

use std::collections::{BTreeSet, HashMap};

use super::header::{Pairs, first_duplicate, shorten};
use super::{TensorInfo, WeightsProblem as Problem};
use crate::error::{Error, Result};

/// As for a header: far above any real index.
pub(super) const MAX_INDEX: u64 = 100_000_000;

/// A parsed index: the file of each tensor.
#[derive(Debug)]
pub(super) struct Index {
    file: String,
    tensors: Vec<(String, String)>,
}

impl Index {
    /// Parses the bytes of the index called `file`.
    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Index> {
        #[derive(serde::Deserialize)]
        struct Raw {
            weight_map: Pairs<String>,
        }
        let fail = |problem| Error::weights(file, problem);
        let Raw { weight_map: Pairs(tensors) } =
            serde_json::from_slice(bytes).map_err(|e| fail(Problem::IndexJson { message: shorten(e.to_string()) }))?;
        if tensors.is_empty() {
            return Err(fail(Problem::IndexJson { message: "weight_map is empty".to_owned() }));
        }
        if let Some(tensor) = first_duplicate(tensors.iter().map(|(name, _)| name.as_str())) {
            return Err(fail(Problem::DuplicateTensor { tensor }));
        }
        let ending = if file.ends_with(".bin.index.json") { ".bin" } else { ".safetensors" };
        if let Some((_, entry)) = tensors.iter().find(|(_, shard)| !is_plain_name(shard, ending)) {
            return Err(Error::ShardPath { file: file.to_owned(), entry: entry.clone() });
        }
        Ok(Index { file: file.to_owned(), tensors })
    }

    /// The files it names, each once, sorted.
    pub(super) fn shards(&self) -> BTreeSet<&str> {
        let mut shards = BTreeSet::new(); // made of an iterator, it brings a sort of its own to the page
        shards.extend(self.tensors.iter().map(|(_, shard)| shard.as_str()));
        shards
    }

    /// The error for a shard that is not there.
    pub(super) fn missing(&self, shard: &str) -> Error {
        Error::weights(&self.file, Problem::ShardMissing { shard: shard.to_owned() })
    }

    /// Every shard must be among the files that were given.
    pub(super) fn all_in<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let names: Vec<&str> = names.collect();
        match self.shards().iter().find(|shard| !names.contains(shard)) {
            None => Ok(()),
            Some(shard) => Err(self.missing(shard)),
        }
    }

    /// Every tensor must be in the very shard that the index names.
    pub(super) fn verify(&self, tensors: &[TensorInfo], by_name: &HashMap<String, usize>) -> Result<()> {
        let holds = |(name, shard): &(String, String)| by_name.get(name).is_some_and(|&i| *tensors[i].file == **shard);
        match self.tensors.iter().find(|entry| !holds(entry)) {
            None => Ok(()),
            Some((tensor, shard)) => {
                let problem = Problem::NotInShard { tensor: tensor.clone(), shard: shard.clone() };
                Err(Error::weights(&self.file, problem))
            }
        }
    }
}

/// A name that stays in its folder on every system: no separators of any of them, no drive or stream (`:`), no NUL, and
/// the one ending that shards of this index have.
fn is_plain_name(name: &str, ending: &str) -> bool {
    let stem = name.strip_suffix(ending).unwrap_or_default();
    !stem.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':', '\0'])
        && !name.chars().any(char::is_control)
}
