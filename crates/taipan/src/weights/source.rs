//! Where the bytes of weights come from: files in memory, or a reader that is asked for one range after another.

use std::borrow::Cow;
use std::ops::Range;

use super::open::Parts;
use super::shards::Index;
use super::{Headers, TensorInfo, Weights, WeightsProblem, header};
use crate::error::{Error, Result};

/// Headers, and whatever gives the bytes that they describe.
pub trait WeightSource {
    /// What the headers say.
    fn headers(&self) -> &Headers;

    /// Stored bytes of a tensor, exactly as many as the range is long, which counts from the tensor's first byte.
    fn read<'a>(
        &'a self,
        info: &'a TensorInfo,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Cow<'a, [u8]>>> + use<'a, Self>;
}

impl WeightSource for Weights {
    fn headers(&self) -> &Headers {
        self.headers()
    }

    async fn read<'a>(&'a self, info: &'a TensorInfo, range: Range<u64>) -> Result<Cow<'a, [u8]>> {
        let (_, bytes) = self.get_raw(&info.name)?;
        Ok(Cow::Borrowed(&bytes[range.start as usize..range.end as usize]))
    }
}

/// Weights of which only the headers are in memory. The rest is read in ranges, each once and as it is needed: from a
/// server, from a browser's storage.
pub struct RangedWeights<F> {
    headers: Headers,
    read: F,
}

impl<F> RangedWeights<F> {
    /// `read` gets the name of a file and a range of its bytes.
    pub fn new(headers: Headers, read: F) -> Self {
        Self { headers, read }
    }
}

impl<F, R> WeightSource for RangedWeights<F>
where
    F: Fn(&str, Range<u64>) -> R,
    R: Future<Output = Result<Vec<u8>>>,
{
    fn headers(&self) -> &Headers {
        &self.headers
    }

    async fn read<'a>(&'a self, info: &'a TensorInfo, range: Range<u64>) -> Result<Cow<'a, [u8]>> {
        let start = info.range.start;
        let file = start + range.start..start + range.end;
        let bytes = (self.read)(&info.file, file.clone()).await?;
        let (expected, found) = (file.end - file.start, bytes.len() as u64);
        if expected == found {
            return Ok(Cow::Owned(bytes));
        }
        let problem = WeightsProblem::ShortRead { tensor: info.name.clone(), expected, found };
        Err(Error::weights(&info.file, problem))
    }
}

/// The beginning of a weight file.
#[derive(Clone, Copy, Debug)]
pub struct FileStart<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bytes up to the end of the header; more do no harm.
    pub bytes: &'a [u8],
    /// How long the whole file is.
    pub len: u64,
}

impl Headers {
    /// Reads headers from the beginnings of files. `index` is the contents of `model.safetensors.index.json`, where the
    /// files are shards.
    ///
    /// # Errors
    /// `Weights` or `ShardPath`.
    pub fn parse(files: &[FileStart<'_>], index: Option<&[u8]>) -> Result<Headers> {
        let mut parts = Parts::default();
        for file in files {
            let fail = |problem| Error::weights(file.name, problem);
            let truncated = |needed| WeightsProblem::HeaderTruncated { needed, found: file.bytes.len() as u64 };
            let (prefix, rest) = file.bytes.split_first_chunk::<8>().ok_or_else(|| fail(truncated(header::PREFIX)))?;
            let json_len = header::json_len(*prefix, file.len).map_err(fail)?;
            let needed = header::PREFIX + json_len as u64;
            let json = rest.get(..json_len).ok_or_else(|| fail(truncated(needed)))?;
            parts.add(file.name, json, file.len - needed, file.len)?;
        }
        let index = index.map(|bytes| Index::parse(super::open::INDEX, bytes)).transpose()?;
        if let Some(index) = &index {
            index.all_in(files.iter().map(|file| file.name))?;
        }
        parts.finish(index.as_ref())
    }

    /// The files that an index of shards names, each once, sorted.
    ///
    /// # Errors
    /// `Weights` or `ShardPath`.
    pub fn shards(index: &[u8]) -> Result<Vec<String>> {
        let index = Index::parse(super::open::INDEX, index)?;
        Ok(index.shards().into_iter().map(str::to_owned).collect())
    }
}
