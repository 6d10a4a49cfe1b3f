//! From a folder, a file or bytes to [`Weights`] and [`Headers`].

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::map::Bytes;
use super::shards::{Index, MAX_INDEX};
use super::{Headers, TensorInfo, Weights, WeightsProblem, header, pytorch};
use crate::error::{Error, Result};

const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
const PYTORCH: &str = "pytorch_model.bin";
const PYTORCH_INDEX: &str = "pytorch_model.bin.index.json";

impl Weights {
    /// Opens the weights of a model folder: `model.safetensors`, or else the shards of `model.safetensors.index.json`, or
    /// else `pytorch_model.bin`, or else the shards of `pytorch_model.bin.index.json`.
    /// Files are mapped, not read, so this costs little whatever their size.
    ///
    /// # Errors
    /// `NoWeights`, `Io`, `Weights` or `ShardPath`.
    pub fn open(dir: &Path) -> Result<Weights> {
        let open = || -> Result<Weights> {
            let found = Found::look(dir)?;
            let mut parts = Parts::default();
            let mut data = Vec::new();
            for path in &found.paths {
                data.push(parts.map(path)?);
            }
            Ok(Weights { headers: parts.finish(found.index.as_ref())?, data })
        };
        open().map_err(|e| e.in_dir(dir))
    }

    /// Opens one safetensors file, whatever its name.
    ///
    /// # Errors
    /// `Io` or `Weights`.
    pub fn open_file(path: &Path) -> Result<Weights> {
        let open = || -> Result<Weights> {
            let mut parts = Parts::default();
            let data = vec![parts.map(path)?];
            Ok(Weights { headers: parts.finish(None)?, data })
        };
        open().map_err(|e| e.in_dir(path.parent().unwrap_or(path)))
    }

    /// Takes files that are already in memory, as pairs of name and contents. A file whose name ends in
    /// `.index.json` is the index that the others must agree with; one in `.bin` is an archive of PyTorch.
    ///
    /// # Errors
    /// `Weights` or `ShardPath`.
    pub fn from_bytes(files: Vec<(String, Cow<'static, [u8]>)>) -> Result<Weights> {
        let (mut parts, mut data, mut index) = (Parts::default(), Vec::new(), None);
        for (name, bytes) in files {
            if name.ends_with(".index.json") {
                index = Some(Index::parse(&name, &bytes)?);
                continue;
            }
            parts.add_whole(&name, &bytes)?;
            data.push(Bytes::InMemory(bytes));
        }
        if let Some(index) = &index {
            index.all_in(parts.files.iter().map(|(name, _)| name.as_str()))?;
        }
        Ok(Weights { headers: parts.finish(index.as_ref())?, data })
    }

    /// Reads the headers of a model folder and nothing else.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_headers(dir: &Path) -> Result<Headers> {
        let open = || -> Result<Headers> {
            let found = Found::look(dir)?;
            let mut parts = Parts::default();
            for path in &found.paths {
                parts.read(path)?;
            }
            parts.finish(found.index.as_ref())
        };
        open().map_err(|e| e.in_dir(dir))
    }
}

/// The weight files of a folder.
struct Found {
    paths: Vec<PathBuf>,
    index: Option<Index>,
}

impl Found {
    fn look(dir: &Path) -> Result<Found> {
        if !std::fs::metadata(dir).map_err(|e| Error::io("open", dir, e))?.is_dir() {
            return Err(Error::io("open", dir, io::ErrorKind::NotADirectory.into()));
        }
        let single = dir.join(SINGLE);
        if exists(&single)? {
            return Ok(Found { paths: vec![single], index: None });
        }
        let mut name = INDEX;
        if !exists(&dir.join(name))? {
            if exists(&dir.join(PYTORCH))? {
                return Ok(Found { paths: vec![dir.join(PYTORCH)], index: None });
            }
            name = PYTORCH_INDEX;
        }
        if !exists(&dir.join(name))? {
            return Err(Error::NoWeights { dir: dir.to_owned() });
        }
        let index = Index::parse(name, &read_index(&dir.join(name))?)?;
        let mut paths = Vec::new();
        for shard in index.shards() {
            let path = dir.join(shard);
            if !exists(&path)? {
                return Err(index.missing(shard));
            }
            paths.push(path);
        }
        Ok(Found { paths, index: Some(index) })
    }
}

/// Whether a folder has weights that are no GGUF file.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn has_weights(dir: &Path) -> Result<bool> {
    for name in [SINGLE, INDEX, PYTORCH, PYTORCH_INDEX] {
        if exists(&dir.join(name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|e| Error::io("look for", path, e))
}

fn read_index(path: &Path) -> Result<Vec<u8>> {
    let (file, len) = open_regular(path)?;
    if len > MAX_INDEX {
        return Err(Error::weights(&file_name(path), WeightsProblem::IndexTooLong { len, max: MAX_INDEX }));
    }
    let mut bytes = Vec::new();
    // The limit holds also if the file grows meanwhile.
    file.take(MAX_INDEX).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}

/// Opens a file that has a length. A pipe or a device has none, and opening a pipe would wait for a writer.
fn open_regular(path: &Path) -> Result<(File, u64)> {
    let fail = |e| Error::io("open", path, e);
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let file = File::open(path).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    Ok((file, len))
}

/// Headers under construction.
#[derive(Default)]
pub(super) struct Parts {
    tensors: Vec<TensorInfo>,
    files: Vec<(String, u64)>,
}

impl Parts {
    pub(super) fn add(&mut self, name: &str, json: &[u8], data_len: u64, file_len: u64) -> Result<()> {
        let file: Arc<str> = name.into();
        let mut tensors =
            header::parse(json, data_len, &file, self.files.len()).map_err(|problem| Error::weights(name, problem))?;
        self.tensors.append(&mut tensors);
        self.files.push((name.to_owned(), file_len));
        Ok(())
    }

    /// Adds a file of which all bytes are at hand.
    fn add_whole(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let fail = |p| Error::weights(name, p);
        if !name.ends_with(".bin") {
            let (json, data_len) = header::split(bytes).map_err(fail)?;
            return self.add(name, json, data_len, bytes.len() as u64);
        }
        let mut tensors = pytorch::parse(bytes, &name.into(), self.files.len()).map_err(fail)?;
        self.tensors.append(&mut tensors);
        self.files.push((name.to_owned(), bytes.len() as u64));
        Ok(())
    }

    /// Adds a file through a mapping, which is given back.
    fn map(&mut self, path: &Path) -> Result<Bytes> {
        let bytes = map_file(path)?;
        self.add_whole(&file_name(path), &bytes)?;
        Ok(bytes)
    }

    /// Adds a file of which only the header is read.
    fn read(&mut self, path: &Path) -> Result<()> {
        let name = file_name(path);
        if name.ends_with(".bin") {
            // Its directory is at the end and its list of tensors in the middle.
            return self.map(path).map(|_| ());
        }
        let (mut file, len) = open_regular(path)?;
        if len < header::PREFIX {
            let problem = WeightsProblem::HeaderTruncated { needed: header::PREFIX, found: len };
            return Err(Error::weights(&name, problem));
        }
        let fail = |e| Error::io("read", path, e);
        let mut prefix = [0; header::PREFIX as usize];
        file.read_exact(&mut prefix).map_err(fail)?;
        let json_len = header::json_len(prefix, len).map_err(|p| Error::weights(&name, p))?;
        let mut json = vec![0; json_len]; // no longer than the file
        file.read_exact(&mut json).map_err(fail)?;
        self.add(&name, &json, len - header::PREFIX - json_len as u64, len)
    }

    pub(super) fn finish(self, index: Option<&Index>) -> Result<Headers> {
        let headers = Headers::new(self.tensors, self.files)?;
        if let Some(index) = index {
            index.verify(&headers.tensors, &headers.by_name)?;
        }
        Ok(headers)
    }
}

/// Maps a file that is long enough for the shortest of headers.
pub(super) fn map_file(path: &Path) -> Result<Bytes> {
    let (file, len) = open_regular(path)?;
    if len < header::PREFIX {
        // Also because an empty file cannot be mapped everywhere.
        let problem = WeightsProblem::HeaderTruncated { needed: header::PREFIX, found: len };
        return Err(Error::weights(&file_name(path), problem));
    }
    Bytes::map(&file).map_err(|e| Error::io("map", path, e))
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
