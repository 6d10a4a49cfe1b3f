//! Where the bytes of weights come from: files in memory, or a reader that is asked for one range after another.

use std::ops::Range;

use super::map::Bytes;
use super::open::Parts;
use super::shards::Index;
use super::{Headers, Tensor, TensorInfo, Weights, WeightsProblem, header};
use crate::config::{Config, HEAD};
use crate::error::{Error, Result};

/// Headers, and whatever gives the bytes that they describe.
pub trait WeightSource {
    /// What the headers say.
    fn headers(&self) -> &Headers;

    /// The weights themselves, where they are all in memory: nothing is read then.
    fn in_memory(&self) -> Option<&Weights> {
        None
    }

    /// Bytes of a file, exactly as many as the range is long.
    fn read(&self, file: &str, range: Range<u64>) -> impl Future<Output = Result<Vec<u8>>>;
}

impl WeightSource for Weights {
    fn headers(&self) -> &Headers {
        self.headers()
    }

    fn in_memory(&self) -> Option<&Weights> {
        Some(self)
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let index = self.headers.files.iter().position(|(name, _)| name == file);
        let bytes = index.and_then(|i| self.data[i].get(range.start as usize..range.end as usize));
        Ok(bytes.unwrap_or_default().to_vec())
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

    fn read(&self, file: &str, range: Range<u64>) -> impl Future<Output = Result<Vec<u8>>> {
        (self.read)(file, range)
    }
}

/// A tensor, or some of its rows, in memory.
pub(crate) struct Fetched {
    /// As if the rows were all that there is.
    info: TensorInfo,
    /// Elements, then the scales of a quantised matrix.
    bytes: Vec<u8>,
}

impl Fetched {
    /// All of a tensor.
    pub(crate) async fn whole<S: WeightSource>(weights: &S, name: &str) -> Result<Self> {
        let info = weights.headers().get(name)?;
        Self::range(weights, info, 0..1, 1, info.shape.clone()).await
    }

    /// Rows of a matrix, or of several in one tensor, end to end.
    pub(crate) async fn rows<S: WeightSource>(
        weights: &S,
        name: &str,
        rows: Range<usize>,
        cols: usize,
    ) -> Result<Self> {
        let info = weights.headers().get(name)?;
        let (all, mut shape) = (info.rows(cols), vec![rows.len(), cols]);
        if info.quantised.is_some() {
            shape = vec![rows.len(), info.shape[1], info.shape[2]];
        }
        Self::range(weights, info, rows.start as u64..rows.end as u64, all as u64, shape).await
    }

    /// The part `part` of a tensor that is cut into `parts` equal ones.
    async fn range<S: WeightSource>(
        weights: &S,
        whole: &TensorInfo,
        part: Range<u64>,
        parts: u64,
        shape: Vec<usize>,
    ) -> Result<Self> {
        let cut = |range: &Range<u64>| {
            let one = (range.end - range.start) / parts.max(1);
            range.start + part.start * one..range.start + part.end * one
        };
        let mut info = TensorInfo { shape, file_index: 0, ..whole.clone() };
        let mut bytes = read(weights, whole, cut(&whole.range)).await?;
        info.range = 0..bytes.len() as u64;
        if let Some((quant, scales)) = &whole.quantised {
            bytes.extend(read(weights, whole, cut(scales)).await?);
            info.quantised = Some((*quant, info.range.end..bytes.len() as u64));
        }
        Ok(Self { info, bytes })
    }

    /// The tensor.
    pub(crate) fn tensor(&self) -> Result<Tensor<'_>> {
        let elements = self.info.range.end as usize;
        let (bytes, scales) = self.bytes.split_at(elements);
        Ok(Tensor { info: &self.info, dtype: self.info.dtype()?, bytes, scales })
    }
}

async fn read<S: WeightSource>(weights: &S, info: &TensorInfo, range: Range<u64>) -> Result<Vec<u8>> {
    if let Some(all) = weights.in_memory() {
        // What was converted lies beside its file, not in it.
        return Ok(all.part(info.file_index, &range).to_vec());
    }
    let bytes = weights.read(&info.file, range.clone()).await?;
    let (expected, found) = (range.end - range.start, bytes.len() as u64);
    if expected == found {
        return Ok(bytes);
    }
    Err(Error::weights(&info.file, WeightsProblem::ShortRead { tensor: info.name.clone(), expected, found }))
}

/// The config with its head untied where the files hold one that differs from the embedding: what is stored counts.
pub(crate) async fn resolve<S: WeightSource>(weights: &S, config: &Config) -> Result<Config> {
    /// Bytes compared at a time.
    const STEP: usize = 1 << 20;
    if let Some(all) = weights.in_memory() {
        return all.resolve(config);
    }
    let mut config = config.clone();
    if !weights.headers().stores_tied_head(&config) {
        return Ok(config);
    }
    let (embedding, head) = (weights.headers().get(config.embedding_tensor())?, weights.headers().get(HEAD)?);
    let mut same = embedding.element == head.element;
    let (one, other) = (&embedding.range, &head.range);
    for at in (0..one.end - one.start).step_by(STEP) {
        let part = |range: &Range<u64>| range.start + at..(range.start + at + STEP as u64).min(range.end);
        same = same && read(weights, embedding, part(one)).await? == read(weights, head, part(other)).await?;
    }
    config.tie_word_embeddings = same;
    Ok(config)
}

impl Weights {
    /// Weights of which these tensors, or these rows, are all that there is.
    pub(crate) fn of_rows(parts: Vec<Fetched>) -> Result<Self> {
        let (mut tensors, mut files, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for (file_index, Fetched { info, bytes }) in parts.into_iter().enumerate() {
            files.push((info.file.to_string(), bytes.len() as u64));
            tensors.push(TensorInfo { file_index, ..info });
            data.push(Bytes::InMemory(bytes.into()));
        }
        Ok(Self { headers: Headers::new(tensors, files)?, data })
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
