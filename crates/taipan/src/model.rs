//! Opening a model, and the programs it runs.

use std::borrow::Cow;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use taipan_gpu::Gpu;

use crate::description::{Buffers, Description, Shape};
use crate::error::{Error, Result};
use crate::layers::Programs;
use crate::load::{Progress, WeightDtype, load_cpu, load_gpu};
use crate::run::{cpu, gpu};
use crate::session::{Session, SessionOptions};
use crate::{Config, Device, TensorInfo, Tokenizer, Weights};

/// How to load a model.
#[derive(Default)]
pub struct LoadOptions {
    /// How matrices are stored.
    pub dtype: WeightDtype,
    /// Most tokens of a segment; a prompt runs in segments. Default 512 on a GPU, 256 on the CPU.
    pub segment: Option<usize>,
    /// Tokens of a chunk of the chunked form, 1 to 64; default 64. Changes rounding, never the mathematics.
    pub chunk: Option<usize>,
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

/// An open model on a device. Cheap to clone; sessions share its weights and scratch space.
#[derive(Clone)]
pub struct Model(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) device: Device,
    pub(crate) description: Description,
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
    pub(crate) programs: ProgramSet<gpu::Program>,
    _weights: gpu::Weights,
}

/// One thing for each program of [`Programs`].
pub(crate) struct ProgramSet<T> {
    pub(crate) prefill: T,
    pub(crate) decode: T,
    pub(crate) sample: T,
    pub(crate) final_norm: T,
    pub(crate) logit_tiles: Vec<T>,
}

impl<T> ProgramSet<T> {
    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> U) -> ProgramSet<U> {
        ProgramSet {
            prefill: f(&self.prefill),
            decode: f(&self.decode),
            sample: f(&self.sample),
            final_norm: f(&self.final_norm),
            logit_tiles: self.logit_tiles.iter().map(f).collect(),
        }
    }
}

/// Logits of all positions are made for so many bytes at a time.
const LOGIT_TILE_BYTES: usize = 16 << 20;

fn shape(config: &Config, options: &LoadOptions, cpu: bool) -> Result<Shape> {
    let invalid = |name: &str, value: usize, allowed: &str| Error::InvalidOption {
        name: name.to_owned(),
        value: value.to_string(),
        allowed: allowed.to_owned(),
    };
    let segment = options.segment.unwrap_or(if cpu { 256 } else { 512 });
    if !(1..=4096).contains(&segment) {
        return Err(invalid("segment", segment, "1 to 4096 tokens"));
    }
    let chunk = options.chunk.unwrap_or(64);
    if !(1..=64).contains(&chunk) {
        return Err(invalid("chunk", chunk, "1 to 64 tokens"));
    }
    let logit_rows = (LOGIT_TILE_BYTES / (4 * config.vocab_size)).clamp(1, segment);
    Ok(Shape { segment, chunk, logit_rows })
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
    /// Opens a model folder: `config.json`, `model.safetensors` (or shards with an index), and `tokenizer.json` if there.
    ///
    /// # Errors
    /// Any file that is missing, damaged or does not fit the others, and a model that does not fit the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn open(dir: &Path, device: &Device, options: LoadOptions) -> Result<Self> {
        let config = read(&dir.join("config.json"))?;
        let weights = Weights::open(dir)?;
        let tokenizer = dir.join("tokenizer.json");
        let tokenizer = tokenizer.is_file().then(|| Tokenizer::from_file(&tokenizer)).transpose()?;
        Self::build(&Config::from_json(&config)?, &weights, tokenizer, device, &options)?.ready().await
    }

    /// Opens a model from its files in memory.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn from_bytes(files: ModelFiles, device: &Device, options: LoadOptions) -> Result<Self> {
        let config = Config::from_json(&files.config)?;
        let weights = Weights::from_bytes(files.weights)?;
        let tokenizer = files.tokenizer.map(|bytes| Tokenizer::from_bytes(&bytes)).transpose()?;
        Self::build(&config, &weights, tokenizer, device, &options)?.ready().await
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
        let description = Description::new(config, shape(config, &options, device.is_cpu())?);
        let programs = Programs::new(&description);
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
            device: device.clone(),
            description,
            fingerprint,
            backend,
        };
        Self(Arc::new(inner)).ready().await
    }

    /// What the model is, as data: layers, weights, buffers.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// Waits until the device has compiled and uploaded everything: a browser does so behind our back, and reports late.
    async fn ready(self) -> Result<Self> {
        if let Some(gpu) = self.device().as_gpu() {
            gpu.settle().await?;
        }
        Ok(self)
    }

    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "a browser's handles stay on their thread")
    )]
    fn build(
        config: &Config,
        weights: &Weights,
        tokenizer: Option<Tokenizer>,
        device: &Device,
        options: &LoadOptions,
    ) -> Result<Self> {
        weights.check(config)?;
        let description = Description::new(config, shape(config, options, device.is_cpu())?);
        let (recipes, progress) = (&description.recipes, options.progress.as_ref());
        let programs = Programs::new(&description);
        let backend = match device.as_gpu() {
            None => Backend::Cpu { weights: load_cpu(weights, recipes, options.dtype, progress)?, programs },
            Some(gpu) => {
                check_buffers(gpu, &[&description.state, &description.scratch_buffers])?;
                let weights = load_gpu(gpu, weights, recipes, options.dtype, progress)?;
                Backend::Gpu(GpuModel::new(gpu, weights, &description, &programs)?)
            }
        };
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            tokenizer,
            device: device.clone(),
            fingerprint: fingerprint(config, &weights.headers().tensors),
            description,
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

    /// Where it runs.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Hash of config and tensor headers, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint.iter().map(|b| format!("{b:02x}")).collect()
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

#[cfg(not(target_arch = "wasm32"))]
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })
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
    fn new(gpu: &Arc<Gpu>, weights: gpu::Weights, d: &Description, programs: &Programs) -> Result<Self> {
        let program = |calls: &Vec<_>| gpu::Program::new(gpu, calls, &weights);
        let programs = ProgramSet {
            prefill: program(&programs.prefill),
            decode: program(&programs.decode),
            sample: program(&programs.sample),
            final_norm: program(&programs.final_norm),
            logit_tiles: programs.logit_tiles.iter().map(program).collect(),
        };
        let scratch = gpu::Memory::new(gpu, &d.scratch_buffers);
        gpu.check()?;
        Ok(Self { gpu: Arc::clone(gpu), weight_bytes: weights.bytes(), scratch, programs, _weights: weights })
    }
}

/// What a model takes, from its config and tensor headers alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Parameters.
    pub parameters: u64,
    /// Elements of matrices, whose storage `--dtype` chooses.
    pub matrix_elements: u64,
    /// Bytes of everything that stays f32.
    pub vector_bytes: u64,
    /// Bytes of a session's state, whatever the length of its text.
    pub state_bytes: u64,
    /// Bytes of scratch space, shared by sessions.
    pub scratch_bytes: u64,
    /// The largest buffer that cannot be split, and its bytes.
    pub largest_buffer: (String, u64),
    /// Dispatches of one decoded token, sampling included.
    pub decode_dispatches: usize,
}

impl Footprint {
    /// Computes the footprint on a GPU.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let shape = shape(config, &LoadOptions::default(), false).expect("the default shape is valid");
        let d = Description::new(config, shape);
        let matrix_elements = d.recipes.matrices.iter().map(|m| (m.rows * m.cols) as u64).sum();
        let programs = Programs::new(&d);
        let buffers = d.state.list().iter().chain(d.scratch_buffers.list());
        let largest = buffers.max_by_key(|b| b.gpu_bytes()).expect("every model has buffers");
        Self {
            parameters: config.parameters(),
            matrix_elements,
            vector_bytes: 4 * (config.parameters() - matrix_elements),
            state_bytes: d.state.bytes(),
            scratch_bytes: d.scratch_buffers.bytes(),
            largest_buffer: (largest.name.clone(), largest.gpu_bytes()),
            decode_dispatches: programs.decode.len() + programs.sample.len(),
        }
    }
}

/// Bytes of buffers as the CPU device keeps them.
pub(crate) fn dense_bytes(buffers: &Buffers) -> u64 {
    buffers.list().iter().map(|b| (b.len() * size_of::<u32>()) as u64).sum()
}
