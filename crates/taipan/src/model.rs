//! Opening a model, and the programs it runs.

use std::borrow::Cow;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use taipan_gpu::{Gpu, GpuError};
use taipan_kernels::WeightFormat;

use crate::description::{Buffers, Description};
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::generation::GENERATION_FILE;
use crate::layers::Programs;
use crate::load::{Progress, WeightDtype, load_cpu, load_gpu};
use crate::run::{cpu, gpu};
use crate::session::{Session, SessionOptions};
use crate::shape::{described, recurrent};
use crate::weights::{resolve, serialize};
use crate::{Config, Device, ElementType, Family, GenerationDefaults, TensorInfo, Tokenizer, WeightSource, Weights};

/// How to load a model.
#[derive(Default)]
pub struct LoadOptions {
    /// How matrices are stored.
    pub dtype: WeightDtype,
    /// Most tokens of a segment; a prompt runs in segments. Default 256 on the CPU, 512 on a GPU, and up to 2048
    /// on a discrete one where the model is small enough.
    pub segment: Option<usize>,
    /// Tokens of a chunk of the chunked form, 1 to 64; default 64. Changes rounding, never the mathematics.
    pub chunk: Option<usize>,
    /// Prompts of at most so many tokens, and what is left of longer ones behind their last whole segment, run token by
    /// token in the recurrent form, since the chunked form takes as long for one token as for dozens. Default 6 on the CPU
    /// and 7 on a GPU, as measured; 0 is never. Changes rounding, never the mathematics.
    pub recurrent: Option<usize>,
    /// Takes the place of the model's own tokenizer.
    pub tokenizer: Option<Tokenizer>,
    /// Called as weights are loaded.
    pub progress: Option<Progress>,
}

/// The files of a model in memory.
pub struct ModelFiles {
    /// `config.json`.
    pub config: Cow<'static, [u8]>,
    /// Weight files by name: `model.safetensors`, or shards.
    pub weights: Vec<(String, Cow<'static, [u8]>)>,
    /// `tokenizer.json`.
    pub tokenizer: Option<Cow<'static, [u8]>>,
}

impl ModelFiles {
    /// A checkpoint of random weights for a config, always the same for a seed: for tests, benchmarks and examples. What
    /// it writes is noise.
    ///
    /// # Errors
    /// Those of [`Config::from_json`].
    pub fn random(config: &str, seed: u64) -> Result<Self> {
        let mut drawn = 0;
        let mut data = Vec::new();
        let tensors = Config::from_json(config.as_bytes())?.expected_tensors();
        for (name, shape) in &tensors {
            let (lo, hi) = random_range(name, shape);
            let mut number = || {
                drawn += 1;
                lo + (hi - lo) * taipan_reference::uniform(seed, drawn)
            };
            let values = (0..shape.iter().product()).flat_map(|_: usize| number().to_le_bytes());
            data.push(values.collect::<Vec<u8>>());
        }
        let tensors = tensors.iter().zip(&data);
        let entries: Vec<_> = tensors.map(|((n, s), d)| (&n[..], ElementType::F32, &s[..], &d[..])).collect();
        Ok(Self {
            config: config.as_bytes().to_vec().into(),
            weights: vec![("model.safetensors".to_owned(), serialize(&entries).into())],
            tokenizer: None,
        })
    }
}

/// Numbers of about the size that training leaves.
fn random_range(name: &str, shape: &[usize]) -> (f32, f32) {
    match name.rsplit('.').next().unwrap_or(name) {
        "dt_bias" => (-4.0, -1.0),
        "A_log" => (0.0, 2.7),
        "D" => (0.8, 1.2),
        "bias" => (-0.5, 0.5),
        _ if name.ends_with("norm.weight") => (0.8, 1.2),
        _ => {
            let spread = (3.0 / shape[shape.len() - 1] as f32).sqrt();
            (-spread, spread)
        }
    }
}

/// An open model on a device. Cheap to clone; sessions share its weights and scratch space.
#[derive(Clone)]
pub struct Model(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) generation: GenerationDefaults,
    pub(crate) device: Device,
    pub(crate) description: Description,
    /// Tokens of a prompt that are at most run one by one.
    pub(crate) recurrent: usize,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) backend: Backend,
}

pub(crate) enum Backend {
    Cpu { weights: cpu::Weights, programs: Programs },
    Gpu(GpuModel),
}

/// Weights in a device's memory, in the order of [`Description::recipes`].
pub enum DeviceWeights {
    /// For the CPU device.
    Cpu(cpu::Weights),
    /// For a GPU device.
    Gpu(gpu::Weights),
}

/// Everything of a model that lives on a GPU.
pub(crate) struct GpuModel {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) weight_bytes: u64,
    pub(crate) scratch: gpu::Memory,
    pub(crate) programs: Programs<gpu::Program>,
    weights: gpu::Weights,
    turn: Mutex<()>,
    /// Bytes of `scratch` and of one `spare`.
    pub(crate) scratch_bytes: u64,
    /// Room for a copy of a state. A session that generates takes it; one beside it makes its own.
    pub(crate) spare: Mutex<Option<gpu::Memory>>,
}

/// Hash of the config and of every tensor's name, type and shape: what a saved session must agree with.
fn fingerprint(config: &Config, tensors: &[TensorInfo]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(config.to_canonical_json());
    let mut lines: Vec<String> =
        tensors.iter().map(|t| format!("{}\t{}\t{:?}\n", t.name, t.element.name(), t.shape)).collect();
    lines.sort_unstable();
    lines.iter().for_each(|line| hash.update(line));
    hash.finalize().into()
}

impl Model {
    /// Opens a model folder: `config.json`, `model.safetensors` (or shards with an index), and `tokenizer.json` if there; or a
    /// file whose name ends in `.gguf`, or a folder with one such file and no other weights.
    ///
    /// ```
    /// use taipan::{Device, LoadOptions, Model, ModelFiles, WeightDtype};
    ///
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_model.rs")); }
    /// # use example::*;
    /// # let dir = std::env::temp_dir().join(format!("taipan-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// # let files = ModelFiles::random(CONFIG, 1)?;
    /// # std::fs::write(dir.join("config.json"), &files.config)?;
    /// # std::fs::write(dir.join("model.safetensors"), &files.weights[0].1)?;
    /// # pollster::block_on(async {
    /// let options = LoadOptions { dtype: WeightDtype::F16, ..LoadOptions::default() };
    /// let model = Model::open(&dir, &Device::cpu(), options).await?;
    /// println!("{} parameters on the {}", model.config().parameters(), model.device().description());
    /// assert!(model.tokenizer().is_none()); // this folder has no tokenizer.json, so texts are token ids
    ///
    /// let error = Model::open(&dir.join("nowhere"), &Device::cpu(), LoadOptions::default()).await.err().unwrap();
    /// println!("error: {error}\nhint: {}", error.hint().unwrap_or_default());
    /// # Ok::<_, taipan::Error>(())
    /// # })?;
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Any file that is missing, damaged or does not fit the others, and a model that does not fit the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn open(dir: &Path, device: &Device, options: LoadOptions) -> Result<Self> {
        if let Some(file) = crate::Gguf::find(dir)? {
            return Self::open_gguf(&file, device, options).await;
        }
        // The weights first: that says whether this is a model folder at all.
        let weights = Weights::open(dir)?;
        let config = read(&dir.join("config.json"))?;
        let path = dir.join("tokenizer.json");
        let exists = options.tokenizer.is_none() && path.try_exists().map_err(|e| Error::io("look for", &path, e))?;
        let tokenizer = exists.then(|| Tokenizer::from_file(&path)).transpose()?;
        let generation = read_if_there(&dir.join(GENERATION_FILE))?;
        let build = async {
            let config = Config::from_json(&config)?;
            let generation = generation.map(|bytes| GenerationDefaults::from_json(&bytes, config.vocab_size));
            let generation = generation.transpose()?.unwrap_or_default();
            Self::build(&config, &weights, (tokenizer, generation), device, &options).await
        };
        build.await.map_err(|e: Error| e.in_dir(dir))?.ready().await
    }

    #[cfg(not(target_arch = "wasm32"))]
    async fn open_gguf(path: &Path, device: &Device, options: LoadOptions) -> Result<Self> {
        let file = crate::Gguf::open(path)?;
        let dir = path.parent().unwrap_or(path);
        let build = async {
            let description = &file.description;
            let tokenizer = description.tokenizer.as_deref().map(Tokenizer::from_bytes).transpose();
            let extras = (tokenizer.map_err(|e| e.of_tokenizer(path))?, GenerationDefaults::default());
            Self::build(&Config::from_json(&description.config)?, &file, extras, device, &options).await
        };
        build.await.map_err(|e: Error| e.in_dir(dir))?.ready().await
    }

    /// Opens a model from its files in memory.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn from_bytes(files: ModelFiles, device: &Device, options: LoadOptions) -> Result<Self> {
        let config = Config::from_json(&files.config)?;
        let weights = Weights::from_bytes(files.weights)?;
        let tokenizer = files.tokenizer.map(|bytes| Tokenizer::from_bytes(&bytes)).transpose()?;
        let extras = (tokenizer, GenerationDefaults::default());
        Self::build(&config, &weights, extras, device, &options).await?.ready().await
    }

    /// Opens a model whose weights come in ranges as they are needed, so that no file is ever in memory as a whole.
    ///
    /// # Errors
    /// As [`Model::open`], and what the source says.
    pub async fn from_source<S: WeightSource>(
        config: &[u8],
        tokenizer: Option<&[u8]>,
        weights: &S,
        device: &Device,
        options: LoadOptions,
    ) -> Result<Self> {
        let config = Config::from_json(config)?;
        let tokenizer = tokenizer.map(Tokenizer::from_bytes).transpose()?;
        let extras = (tokenizer, GenerationDefaults::default());
        Self::build(&config, weights, extras, device, &options).await?.ready().await
    }

    /// Builds a model from weights that are in the device's memory already: drawn there, for instance. `make` gets the
    /// description and answers with one matrix and one vector for each recipe. Of `options`, shapes alone count.
    ///
    /// # Errors
    /// Those of `make`; `Unsupported` if the weights are not this device's or not as many as the recipes; a model that
    /// does not fit the device.
    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "a browser's handles stay on their thread")
    )]
    pub async fn from_device_weights(
        config: &Config,
        device: &Device,
        options: LoadOptions,
        make: impl FnOnce(&Description) -> Result<DeviceWeights>,
    ) -> Result<Self> {
        let (description, programs) = described(config, &options, device)?;
        if let Some(gpu) = device.as_gpu() {
            check_buffers(gpu, &[&description.state, &description.scratch_buffers])?;
        }
        let expected = (description.recipes.matrices.len(), description.recipes.vectors.len());
        let (backend, found) = match (make(&description)?, device.as_gpu()) {
            (DeviceWeights::Cpu(weights), None) => {
                let found = (weights.matrices.len(), weights.vectors.len());
                (Backend::Cpu { weights, programs }, found)
            }
            (DeviceWeights::Gpu(weights), Some(gpu)) if (weights.matrices.len(), weights.vectors.len()) == expected => {
                (Backend::Gpu(GpuModel::new(gpu, weights, &description, &programs)?), expected)
            }
            (DeviceWeights::Gpu(weights), Some(_)) => {
                let (m, v) = (weights.matrices.len(), weights.vectors.len());
                return Err(Error::Unsupported { what: format!("{m} matrices and {v} vectors for {expected:?}") });
            }
            _ => return Err(Error::Unsupported { what: "weights of another device than the model's".to_owned() }),
        };
        if found != expected {
            return Err(Error::Unsupported { what: format!("{found:?} matrices and vectors for {expected:?}") });
        }
        let fingerprint = fingerprint(config, &[]);
        let inner = Inner {
            config: config.clone(),
            tokenizer: None,
            generation: GenerationDefaults::default(),
            device: device.clone(),
            description,
            recurrent: recurrent(&options, device),
            fingerprint,
            backend,
        };
        Self(Arc::new(inner)).ready().await
    }

    /// Tokens of a prompt that are at most run one by one, see [`LoadOptions::recurrent`].
    #[must_use]
    pub fn recurrent(&self) -> usize {
        self.0.recurrent
    }

    /// Dispatches of a decoded token, sampling included; none on the CPU device.
    #[must_use]
    pub fn decode_dispatches(&self) -> usize {
        match &self.0.backend {
            Backend::Gpu(m) => m.programs.decode.len() + m.programs.sample.len(),
            Backend::Cpu { .. } => 0,
        }
    }

    /// What the model is, as data: layers, weights, buffers.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// Waits until the device has compiled and uploaded everything: a browser does so behind our back, and reports late.
    async fn ready(self) -> Result<Self> {
        if let Some(gpu) = self.device().as_gpu() {
            gpu.settle().await.map_err(compiling)?;
        }
        Ok(self)
    }

    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "a browser's handles stay on their thread")
    )]
    async fn build<S: WeightSource>(
        config: &Config,
        weights: &S,
        (tokenizer, generation): (Option<Tokenizer>, GenerationDefaults),
        device: &Device,
        options: &LoadOptions,
    ) -> Result<Self> {
        weights.headers().check(config)?;
        let config = &resolve(weights, config).await?;
        let (description, programs) = described(config, options, device)?;
        let (recipes, progress) = (&description.recipes, options.progress.as_ref());
        let backend = match device.as_gpu() {
            None => Backend::Cpu { weights: load_cpu(weights, recipes, options.dtype, progress).await?, programs },
            Some(gpu) => {
                check_buffers(gpu, &[&description.state, &description.scratch_buffers])?;
                let weights = load_gpu(gpu, weights, recipes, options.dtype, progress).await?;
                Backend::Gpu(GpuModel::new(gpu, weights, &description, &programs)?)
            }
        };
        // Of the files as they are: what ends a text is no part of what a session computes.
        let fingerprint = fingerprint(config, &weights.headers().tensors);
        let mut config = config.clone();
        if let Some(ids) = &generation.eos_token_ids {
            config.eos_token_ids.clone_from(ids);
        }
        Ok(Self(Arc::new(Inner {
            config,
            tokenizer: options.tokenizer.clone().or(tokenizer),
            generation,
            device: device.clone(),
            fingerprint,
            description,
            recurrent: recurrent(options, device),
            backend,
        })))
    }

    /// The config.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The tokenizer, if the model has one.
    #[must_use]
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.0.tokenizer.as_ref()
    }

    /// How its matrices are held in memory: that of the embedding, and of all but in a checkpoint that mixes types.
    #[must_use]
    pub fn format(&self) -> WeightFormat {
        let embedding = self.0.description.embedding.id as usize;
        match &self.0.backend {
            Backend::Cpu { weights, .. } => weights.matrices[embedding].format(),
            Backend::Gpu(model) => model.weights.matrices[embedding].format,
        }
    }

    /// How its makers want it to be sampled: `generation_config.json`, where it was opened from a folder that has one.
    #[must_use]
    pub fn generation(&self) -> &GenerationDefaults {
        &self.0.generation
    }

    /// Tokens in front of every text, where the tokenizer itself puts some there: a BOS, as a rule. A Taipan has none.
    #[must_use]
    pub fn prefix(&self) -> &[u32] {
        match &self.0.tokenizer {
            Some(tokenizer) if self.0.config.family != Family::Taipan => tokenizer.prefix(),
            _ => &[],
        }
    }

    /// Where it runs.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Hash of config and tensor headers, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&self.0.fingerprint)
    }

    /// The ids of a text: special tokens recognised, nothing added.
    ///
    /// # Errors
    /// `NoTokenizer`, `Tokenizer`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer().ok_or(Error::NoTokenizer)?.encode(text)
    }

    /// A new session at position 0.
    ///
    /// # Errors
    /// The device cannot hold another session's state.
    pub fn session(&self, options: SessionOptions) -> Result<Session> {
        Session::new(self.clone(), options)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(not(target_arch = "wasm32"))]
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })
}

/// What goes wrong between uploading and the first use is a kernel that the driver refuses.
fn compiling(error: GpuError) -> Error {
    match error {
        GpuError::Driver { message } => Error::ShaderCompile { message },
        other => other.into(),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let exists = path.try_exists().map_err(|e| Error::io("look for", path, e))?;
    exists.then(|| read(path)).transpose()
}

/// No buffer but a weight matrix can be split.
fn check_buffers(gpu: &Gpu, sets: &[&Buffers]) -> Result<()> {
    let largest = sets.iter().flat_map(|b| b.list()).max_by_key(|desc| desc.gpu_bytes());
    match largest {
        Some(desc) if desc.gpu_bytes() > gpu.max_binding() => Err(Error::LimitTooSmall {
            limit: "maxStorageBufferBindingSize".to_owned(),
            needed: desc.gpu_bytes(),
            available: gpu.max_binding(),
            what: format!("buffer `{}`", desc.name),
        }),
        _ => Ok(()),
    }
}

impl GpuModel {
    fn new(gpu: &Arc<Gpu>, mut weights: gpu::Weights, d: &Description, programs: &Programs) -> Result<Self> {
        gpu::in_rows(gpu, &programs.decode, &mut weights);
        let programs = programs.map(|calls| gpu::Program::new(gpu, calls, &weights));
        let (scratch, spare) = (gpu::Memory::new(gpu, &d.scratch_buffers), gpu::Memory::new(gpu, &d.state));
        gpu.check().map_err(compiling)?;
        let (weight_bytes, scratch_bytes) = (weights.bytes(), scratch.bytes() + spare.bytes());
        let (turn, spare) = (Mutex::new(()), Mutex::new(Some(spare)));
        Ok(Self { gpu: Arc::clone(gpu), weight_bytes, scratch, scratch_bytes, programs, weights, turn, spare })
    }

    /// The right to submit programs: sessions share the scratch space, and one may need several submissions for what must
    /// not be mixed with another's.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of buffers as the CPU device keeps them.
pub(crate) fn dense_bytes(buffers: &Buffers) -> u64 {
    buffers.list().iter().map(|b| (b.len() * size_of::<u32>()) as u64).sum()
}
