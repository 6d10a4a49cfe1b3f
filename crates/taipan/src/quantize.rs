//! A quantised copy of a checkpoint, so that loading need not do it and files are small.

use std::collections::{HashMap, HashSet};
use std::io::{Seek, SeekFrom, Write};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use taipan_gpu::give_way;

use crate::config::Config;
use crate::description::{Description, MatrixRecipe, Shape};
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::fsutil::AtomicDir;
use crate::load::{Progress, Source, WeightDtype};
use crate::quant::Quant;
use crate::weights::quantised::{element, metadata, scales_of};
use crate::weights::{ElementType, TensorInfo, Weights, write};
#[cfg(not(target_arch = "wasm32"))]
use crate::weights::{Gguf, GgufDescription};

/// Elements that are quantised between two looks at whether to go on.
const BATCH: usize = 1 << 18;

/// What a quantised copy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantized {
    /// Bytes of all weights in the original.
    pub original_bytes: u64,
    /// Bytes of all weights in the copy.
    pub bytes: u64,
    /// Matrices that were quantised.
    pub matrices: usize,
    /// Tensors that were copied as they are.
    pub copied: usize,
}

/// A tensor of the copy: what the header says, and where its bytes begin in the data.
struct Entry {
    name: String,
    element: ElementType,
    shape: Vec<usize>,
}

/// Writes the quantised copy of a checkpoint's weights as one safetensors file. Matrices are quantised, the embedding and the
/// head among them; norms, biases, convolutions, gates and everything per head are copied as they are stored.
///
/// # Errors
/// Weights that do not fit the config, are quantised already or are not finite; errors of `out` as `Io`, naming `model.safetensors`.
pub async fn quantize(
    weights: &Weights,
    config: &Config,
    quant: Quant,
    out: &mut (impl Write + Seek),
    progress: Option<&Progress>,
) -> Result<Quantized> {
    weights.check(config)?;
    let config = &weights.resolve(config)?;
    let matrices = matrices(config);
    let is_matrix = |t: &&TensorInfo| matrices.iter().any(|m| m.tensors[0] == t.name);
    let expected = config.expected_tensors();
    // Tables that other implementations store along are not read by anybody.
    let tensors = expected.iter().map(|(name, _)| weights.headers().get(name)).collect::<Result<Vec<_>>>()?;
    if let Some(t) = tensors.iter().find(|t| t.is_quantised()) {
        return Err(Error::AlreadyQuantised { name: t.name.clone(), file: t.file.to_string(), found: t.stored_as() });
    }
    let vectors: Vec<_> = tensors.iter().copied().filter(|t| !is_matrix(t)).collect();
    let layout = Layout::new(&vectors, &matrices, quant);
    let fail = |e| Error::io("write", "model.safetensors", e);
    out.write_all(&layout.header).map_err(fail)?;
    for info in &vectors {
        weights.get(&info.name)?.check_finite()?;
        let (_, bytes) = weights.get_raw(&info.name)?;
        out.seek(SeekFrom::Start(layout.at(&info.name))).and_then(|_| out.write_all(bytes)).map_err(fail)?;
    }
    let total = matrices.iter().map(|m| (m.rows * m.cols) as u64).sum();
    let mut done = 0;
    for recipe in &matrices {
        let source = Source::open(weights, recipe, WeightDtype::Auto)?;
        let (integers, scales) = (layout.at(&recipe.tensors[0]), layout.at(&scales_of(&recipe.tensors[0])));
        let mut written = [0; 2];
        let batch = (BATCH / recipe.cols).max(1);
        for first in (0..recipe.rows).step_by(batch) {
            let count = batch.min(recipe.rows - first);
            let rows = source.quantised(quant, first, count)?;
            let half_words: Vec<u8> = rows.scales().iter().flat_map(|s| s.to_le_bytes()).collect();
            for (i, (start, bytes)) in [(integers, rows.integers()), (scales, &half_words[..])].into_iter().enumerate()
            {
                let seek = out.seek(SeekFrom::Start(start + written[i]));
                seek.and_then(|_| out.write_all(bytes)).map_err(fail)?;
                written[i] += bytes.len() as u64;
            }
            done += (count * recipe.cols) as u64;
            if let Some(progress) = progress {
                progress(done, total);
            }
            give_way().await;
        }
    }
    Ok(Quantized {
        original_bytes: tensors.iter().map(|t| t.stored_bytes()).sum(),
        bytes: layout.bytes,
        matrices: matrices.len(),
        copied: vectors.len(),
    })
}

/// Writes the quantised copy of a model folder or a GGUF file of floats: `config.json`, `model.safetensors`, and what there is of
/// tokenizer, chat template and defaults. The new folder appears whole or not at all.
///
/// ```
/// use taipan::{Device, LoadOptions, Model, ModelFiles, Quant, quantize_folder};
///
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_model.rs")); }
/// # use example::*;
/// # let dir = std::env::temp_dir().join(format!("taipan-doc-quantize-{}", std::process::id()));
/// # let (model, small) = (dir.join("model"), dir.join("model-q4"));
/// # std::fs::create_dir_all(&model)?;
/// # let files = ModelFiles::random(CONFIG, 1)?;
/// # std::fs::write(model.join("config.json"), &files.config)?;
/// # std::fs::write(model.join("model.safetensors"), &files.weights[0].1)?;
/// # pollster::block_on(async {
/// let done = quantize_folder(&model, &small, Quant::Q4, None).await?;
/// assert!(done.bytes < done.original_bytes / 3);
/// let model = Model::open(&small, &Device::cpu(), LoadOptions::default()).await?;
/// assert_eq!(model.format().name(), "q4");
/// # Ok::<_, taipan::Error>(())
/// # })?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`quantize`]; `Io` if `output` exists or cannot be written.
#[cfg(not(target_arch = "wasm32"))]
pub async fn quantize_folder(
    input: &Path,
    output: &Path,
    quant: Quant,
    progress: Option<&Progress>,
) -> Result<Quantized> {
    let (weights, text, others) = match Gguf::find(input)? {
        Some(file) => from_gguf(&file).await?,
        None => from_folder(input)?,
    };
    let dir = if input.is_dir() { input } else { input.parent().unwrap_or(input) };
    let config = Config::from_json(&text).map_err(|e| e.in_dir(dir))?;
    let folder = AtomicDir::create(output)?;
    let path = folder.path().join("model.safetensors");
    let mut file = std::fs::File::create(&path).map_err(|e| Error::io("write", &path, e))?;
    let result = quantize(&weights, &config, quant, &mut file, progress).await.map_err(|e| e.in_dir(dir))?;
    file.sync_all().map_err(|e| Error::io("write", &path, e))?;
    for (name, bytes) in [("config.json", text)].into_iter().chain(others) {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).map_err(|e| Error::io("write", &path, e))?;
    }
    folder.commit()?;
    Ok(result)
}

/// Weights, config.json, and further files by name.
#[cfg(not(target_arch = "wasm32"))]
type Original = (Weights, Vec<u8>, Vec<(&'static str, Vec<u8>)>);

#[cfg(not(target_arch = "wasm32"))]
fn from_folder(input: &Path) -> Result<Original> {
    const OTHERS: [&str; 4] =
        ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];
    let weights = Weights::open(input)?;
    let read = |name: &str| {
        let path = input.join(name);
        std::fs::read(&path).map_err(|e| Error::io("read", &path, e))
    };
    let config = read("config.json")?;
    let others = OTHERS.into_iter().filter_map(|name| match read(name) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.map(|bytes| (name, bytes))),
    });
    Ok((weights, config, others.collect::<Result<_>>()?))
}

#[cfg(not(target_arch = "wasm32"))]
async fn from_gguf(path: &Path) -> Result<Original> {
    let file = Gguf::open(path)?;
    if let Some(t) = file.description.headers.tensors.iter().find(|t| t.is_quantised()) {
        let name = t.name.clone();
        return Err(Error::AlreadyQuantised { name, file: path.display().to_string(), found: t.stored_as() });
    }
    let weights = file.weights().await?;
    let GgufDescription { config, tokenizer, tokenizer_config, .. } = file.description;
    let tokenizer = tokenizer.map(|bytes| ("tokenizer.json", bytes));
    Ok((weights, config, tokenizer.into_iter().chain([("tokenizer_config.json", tokenizer_config)]).collect()))
}

/// The matrices of a model, one tensor each.
fn matrices(config: &Config) -> Vec<MatrixRecipe> {
    // Any shape of a run names the same weights.
    let d = Description::new(config, Shape { segment: 1, chunk: 1, logit_rows: 1 });
    let shapes: HashMap<_, _> = config.expected_tensors().into_iter().collect();
    let mut seen = HashSet::new();
    let named = d.recipes.matrices.iter().flat_map(|m| m.tensors.iter().map(|name| (name, m.cols)));
    let one = |(name, cols): (&String, usize)| {
        // Several matrices in one tensor lie end to end.
        let rows = shapes[name].iter().product::<usize>() / cols;
        MatrixRecipe::stacked(std::slice::from_ref(name), rows, cols)
    };
    named.filter(|(name, _)| seen.insert(*name)).map(one).collect()
}

/// Where everything goes.
struct Layout {
    header: Vec<u8>,
    starts: Vec<(String, u64)>,
    bytes: u64,
}

impl Layout {
    fn new(vectors: &[&TensorInfo], matrices: &[MatrixRecipe], quant: Quant) -> Self {
        let copy = |t: &&TensorInfo| Entry { name: t.name.clone(), element: t.element, shape: t.shape.clone() };
        let mut entries: Vec<Entry> = vectors.iter().map(copy).collect();
        for m in matrices {
            let (name, groups) = (m.tensors[0].clone(), m.cols.div_ceil(taipan_kernels::GROUP));
            entries.push(Entry { name: scales_of(&name), element: ElementType::F16, shape: vec![m.rows, groups] });
            let shape = vec![m.rows, groups, quant.group_bytes()];
            entries.push(Entry { name, element: element(quant), shape });
        }
        // Larger elements first, so that each is aligned.
        entries.sort_by_key(|e| std::cmp::Reverse(e.element.bits()));
        let tensors: Vec<_> = entries.iter().map(|e| (&e.name[..], e.element, &e.shape[..])).collect();
        let header = write::header_with(&tensors, &metadata(quant));
        let (mut at, mut starts) = (header.len() as u64, Vec::with_capacity(entries.len()));
        for e in &entries {
            starts.push((e.name.clone(), at));
            at += write::stored_bytes(e.element, &e.shape);
        }
        Self { bytes: at - header.len() as u64, header, starts }
    }

    fn at(&self, name: &str) -> u64 {
        self.starts.iter().find(|(n, _)| n == name).expect("every tensor was laid out").1
    }
}
