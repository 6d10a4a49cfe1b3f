//! The one error type of this crate.
//!
//! A variant keeps the facts (file, tensor or key, expected, found) as fields; [`Error::code`] is a stable identifier for
//! programs, `Display` is one line for a person, and [`Error::hint`] says what to do next where there is something to do.
//! Names that come out of a file are shown escaped and shortened, because a hostile file chooses them.

mod saved;
mod show;

use std::io;
use std::path::{Path, PathBuf};

use taipan_kernels::TuningError;

use crate::weights::WeightsProblem;
pub use saved::SavedStateProblem;
pub(crate) use show::Name;
use show::{Allocating, AndMore, File, List, Tokenizing};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "open", "read", "write", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that must be JSON is not.
    #[error("{}: not valid JSON: {source}", File(file))]
    Json {
        /// The file.
        file: String,
        /// Where and why parsing stopped.
        source: serde_json::Error,
    },
    /// A required key of config.json is absent.
    #[error("{}: `{}` is missing", File(file), Name(key))]
    ConfigMissing {
        /// The file.
        file: String,
        /// The key with its section, as in `mamba2.d_state`.
        key: String,
    },
    /// A key of config.json has an impossible value.
    #[error("{}: `{}` is {}; allowed: {allowed}", File(file), Name(key), Name(value))]
    ConfigValue {
        /// The file.
        file: String,
        /// The key with its section.
        key: String,
        /// The value as written in the file.
        value: String,
        /// What would have been accepted.
        allowed: String,
    },
    /// config.json describes an architecture this crate does not run.
    #[error("{}: model_type \"{}\" is not supported", File(file), Name(model_type))]
    UnsupportedModel {
        /// The file.
        file: String,
        /// The file's `model_type`.
        model_type: String,
    },
    /// A folder holds no weight file.
    #[error("{}: there is no model.safetensors, no model.safetensors.index.json and no pytorch_model.bin", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder holds several GGUF files, each of which may be a model.
    #[error("{}: there are several GGUF files: {}", dir.display(), Name(List(files).to_string()))]
    SeveralFiles {
        /// The folder.
        dir: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// A weight file or its index is malformed.
    #[error("{}: {problem}", File(file))]
    Weights {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: Box<WeightsProblem>,
    },
    /// An index of shards names something other than a file beside it.
    #[error("{}: shard \"{}\" is not a plain file name", File(file), Name(entry))]
    ShardPath {
        /// The index file.
        file: String,
        /// The entry as written.
        entry: String,
    },
    /// A tensor that config.json calls for is not in the files.
    #[error("tensor `{}` is missing from {}{}", Name(name), File(file), AndMore(*more))]
    TensorMissing {
        /// The tensor.
        name: String,
        /// The file or files looked into.
        file: String,
        /// How many further tensors are missing.
        more: usize,
    },
    /// The files hold a tensor that config.json does not call for.
    #[error("{}: tensor `{}` belongs to no layer of config.json{}", File(file), Name(name), AndMore(*more))]
    TensorUnexpected {
        /// The tensor.
        name: String,
        /// The file it is in.
        file: String,
        /// How many further tensors are not expected.
        more: usize,
    },
    /// A tensor's shape contradicts config.json.
    #[error("{}: tensor `{}` has shape {found:?}, config.json asks for {expected:?}", File(file), Name(name))]
    TensorShape {
        /// The tensor.
        name: String,
        /// The file it is in.
        file: String,
        /// The shape that follows from config.json.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A weight is stored in a type that is not a weight type.
    #[error("{}: tensor `{}` is stored as {found}; allowed: {allowed}", File(file), Name(name))]
    TensorDtype {
        /// The tensor.
        name: String,
        /// The file it is in.
        file: String,
        /// The stored type.
        found: &'static str,
        /// The accepted types.
        allowed: &'static str,
    },
    /// Weights that are to be quantised are quantised already: doing it again would only lose more.
    #[error("{}: tensor `{}` is stored as {found} already", File(file), Name(name))]
    AlreadyQuantised {
        /// The tensor.
        name: String,
        /// The file it is in.
        file: String,
        /// Q8 or Q4, or a type of ggml.
        found: &'static str,
    },
    /// A weight is NaN or infinite.
    #[error("{}: tensor `{}` holds {value} at element {index}; every weight must be finite", File(file), Name(name))]
    NotFinite {
        /// The tensor.
        name: String,
        /// The file it is in.
        file: String,
        /// Flat, row-major index of the first such element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// A weight is too large for the type that was asked for.
    #[error("{}: tensor `{}` holds {value} at element {index}, which {dtype} cannot hold", File(file), Name(name))]
    Overflow {
        /// The tensor.
        name: String,
        /// The file it is in.
        file: String,
        /// `f16`, `bf16`, `q8` or `q4`.
        dtype: &'static str,
        /// Flat, row-major index of the first such element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// The tokenizer could not be read or could not encode or decode.
    #[error("{}: {}", Tokenizing(file.as_deref()), Name(message))]
    Tokenizer {
        /// The file, where it is the file that is wrong.
        file: Option<String>,
        /// The reason.
        message: String,
    },
    /// Text was given to a model that has no tokenizer.
    #[error("the model has no tokenizer.json")]
    NoTokenizer,
    /// A token id beyond the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// The number of ids; valid ones are below it.
        vocab: usize,
    },
    /// Nothing was given to continue from.
    #[error("the prompt is empty: there is no token to continue from")]
    EmptyPrompt,
    /// A text has no more room in a session's context.
    #[error("the text would have {tokens} tokens, the session has room for {context}")]
    ContextFull {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens that there is room for.
        context: usize,
    },
    /// An option has a value outside its range.
    #[error("option {name}: {} is not allowed; allowed: {allowed}", Name(value))]
    InvalidOption {
        /// The option.
        name: String,
        /// The value given.
        value: String,
        /// What would have been accepted.
        allowed: String,
    },
    /// No adapter fits the request.
    #[error("no suitable GPU: asked for {wanted}; found {}", List(found))]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters that are there.
        found: Vec<String>,
    },
    /// A limit of the device is too small for the model.
    #[error("{what} needs {limit} of {needed}, the device offers {available}")]
    LimitTooSmall {
        /// The limit, in WebGPU's spelling.
        limit: String,
        /// What is needed.
        needed: u64,
        /// What the device offers.
        available: u64,
        /// The part of the model or session that needs it.
        what: String,
    },
    /// The device stopped working.
    #[error("the GPU device was lost: {reason}")]
    DeviceLost {
        /// The driver's reason.
        reason: String,
    },
    /// An allocation failed.
    #[error("out of memory{}: {what}", Allocating(*bytes))]
    OutOfMemory {
        /// What the memory was for, or what the driver says.
        what: String,
        /// How much main memory was asked for; a GPU's driver does not tell.
        bytes: Option<u64>,
    },
    /// The GPU layer reported something that is our fault or the driver's.
    #[error("GPU error: {message}")]
    Gpu {
        /// The report.
        message: String,
    },
    /// The driver or browser does not accept a kernel.
    #[error("a kernel does not compile: {message}")]
    ShaderCompile {
        /// The compiler's words.
        message: String,
    },
    /// Something this build or device does not do.
    #[error("{what} is not supported here")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// A table of tunings says something that is unknown or not allowed.
    #[error("{}: {}", File(file), Name(problem.to_string()))]
    Tuning {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: TuningError,
    },
    /// Bytes given to `restore` are not a usable saved state.
    #[error("saved state: {problem}")]
    SavedState {
        /// What is wrong with them.
        problem: SavedStateProblem,
    },
}

impl Error {
    /// A stable identifier of the kind of error, for programs: `"weights-invalid"`, `"no-adapter"`, ….
    pub fn code(&self) -> &'static str {
        match self {
            Error::Io { .. } => "io",
            Error::Json { file, .. } if Path::new(file).ends_with(CONFIG_FILE) => "config-invalid",
            Error::Json { .. } => "json-invalid",
            Error::ConfigMissing { .. } | Error::ConfigValue { .. } => "config-invalid",
            Error::UnsupportedModel { .. } => "model-unsupported",
            Error::NoWeights { .. } => "weights-missing",
            Error::SeveralFiles { .. } => "weights-ambiguous",
            Error::Weights { .. } | Error::ShardPath { .. } => "weights-invalid",
            Error::TensorMissing { .. }
            | Error::TensorUnexpected { .. }
            | Error::TensorShape { .. }
            | Error::TensorDtype { .. }
            | Error::AlreadyQuantised { .. } => "weights-mismatch",
            Error::NotFinite { .. } | Error::Overflow { .. } => "weights-value",
            Error::Tokenizer { .. } => "tokenizer",
            Error::NoTokenizer => "no-tokenizer",
            Error::TokenOutOfRange { .. } => "token-out-of-range",
            Error::EmptyPrompt => "empty-prompt",
            Error::ContextFull { .. } => "context-full",
            Error::InvalidOption { .. } => "invalid-option",
            Error::NoAdapter { .. } => "no-adapter",
            Error::LimitTooSmall { .. } => "limit-too-small",
            Error::DeviceLost { .. } => "device-lost",
            Error::OutOfMemory { .. } => "out-of-memory",
            Error::Gpu { .. } => "gpu",
            Error::ShaderCompile { .. } => "shader-compile",
            Error::Unsupported { .. } => "unsupported",
            Error::Tuning { .. } => "tuning-invalid",
            Error::SavedState { .. } => "saved-state",
        }
    }

    /// The next thing to try, if there is one to name.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Io { action, source, .. } => return io_hint(action, source),
            Error::Json { .. } => "the file may be cut short; compare its size with the original",
            Error::ConfigMissing { .. } | Error::ConfigValue { .. } => {
                "correct config.json, or take the one published with the weights"
            }
            Error::UnsupportedModel { .. } => {
                let names: Vec<_> = crate::Family::PUBLISHED.iter().map(|family| family.name()).collect();
                return Some(format!("this build runs taipan and {}", names.join(", ")));
            }
            Error::NoWeights { .. } => {
                "name a folder that holds config.json and safetensors weights, or a GGUF file; other formats must be converted first"
            }
            Error::SeveralFiles { .. } => "name one of these files instead of the folder",
            Error::Weights { problem, .. } => return problem.hint(),
            Error::ShardPath { .. } => "an index may name only files in its own folder; do not trust this one",
            Error::TensorMissing { .. } | Error::TensorUnexpected { .. } | Error::TensorShape { .. } => {
                "config.json and the weights must come from the same checkpoint"
            }
            Error::TensorDtype { .. } => {
                "convert the checkpoint to F32, F16 or BF16, or quantise such a one with `taipan quantize`"
            }
            Error::AlreadyQuantised { .. } => "quantise the checkpoint that this one was made from",
            Error::NotFinite { .. } => {
                "the checkpoint is damaged or its training diverged; fetch it again or use an earlier one"
            }
            Error::Overflow { .. } => "load with dtype f32, or with auto to keep the stored type",
            Error::Tokenizer { .. } => {
                "tokenizer.json must be in the Hugging Face tokenizers format and belong to this model"
            }
            Error::NoTokenizer => "give token ids, name one with --tokenizer, or put tokenizer.json beside config.json",
            Error::TokenOutOfRange { .. } => "were these ids made by another model's tokenizer?",
            Error::EmptyPrompt => "give at least one token; no BOS is added for you",
            Error::ContextFull { .. } => "give the session a larger context (--ctx), or the model a shorter text",
            Error::InvalidOption { .. } | Error::Gpu { .. } => return None,
            Error::NoAdapter { .. } => "`taipan devices` lists what is there; the CPU device always works",
            Error::LimitTooSmall { .. } => "try another adapter, or the CPU device",
            Error::DeviceLost { .. } => {
                "open the model again; if it happens again, try another backend or the CPU device"
            }
            // Main memory holds f32 whatever the dtype.
            Error::OutOfMemory { bytes: Some(_), .. } => "close other programs, or take a smaller model",
            Error::OutOfMemory { bytes: None, .. } => {
                "close other programs, load with dtype f16, or use the CPU device"
            }
            Error::ShaderCompile { .. } => "update the graphics driver or the browser, or use the CPU device",
            Error::Unsupported { .. } => return None,
            Error::Tuning { .. } => "`taipan bench --tune` measures such a table",
            Error::SavedState { problem } => return Some(problem.hint().to_owned()),
        };
        Some(text.to_owned())
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { action, path: path.into(), source }
    }

    /// Memory that there is not.
    pub(crate) fn out_of_memory(what: impl Into<String>, bytes: usize) -> Error {
        Error::OutOfMemory { what: what.into(), bytes: Some(bytes as u64) }
    }

    /// The same with the folder in front of the file's name. Whoever opens a folder calls this; what reads bytes knows
    /// no folder.
    #[must_use]
    pub fn in_dir(mut self, dir: &Path) -> Error {
        if let Error::Json { file, .. }
        | Error::ConfigMissing { file, .. }
        | Error::ConfigValue { file, .. }
        | Error::UnsupportedModel { file, .. }
        | Error::Weights { file, .. }
        | Error::ShardPath { file, .. }
        | Error::TensorMissing { file, .. }
        | Error::TensorUnexpected { file, .. }
        | Error::TensorShape { file, .. }
        | Error::TensorDtype { file, .. }
        | Error::AlreadyQuantised { file, .. }
        | Error::NotFinite { file, .. }
        | Error::Overflow { file, .. } = &mut self
        {
            *file = dir.join(&*file).display().to_string();
        }
        self
    }

    /// The same about another file than config.json.
    pub(crate) fn of_file(mut self, name: &str) -> Error {
        if let Error::ConfigValue { file, .. } | Error::ConfigMissing { file, .. } = &mut self {
            *file = name.to_owned();
        }
        self
    }

    /// The same about the tokenizer in a file.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn of_tokenizer(mut self, path: &Path) -> Error {
        if let Error::Tokenizer { file, .. } = &mut self {
            *file = Some(path.display().to_string());
        }
        self
    }

    pub(crate) fn weights(file: &str, problem: WeightsProblem) -> Error {
        Error::Weights { file: file.to_owned(), problem: Box::new(problem) }
    }
}

/// The one config file's name; its JSON errors count as config errors.
pub(crate) const CONFIG_FILE: &str = "config.json";

fn io_hint(action: &str, source: &io::Error) -> Option<String> {
    let text = match source.kind() {
        io::ErrorKind::AlreadyExists => "nothing is overwritten: name another place, or remove what is there",
        io::ErrorKind::IsADirectory => "this is a folder; name a file",
        io::ErrorKind::NotADirectory if action == "open" => {
            "name the folder that holds config.json and the weights, not a file"
        }
        io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
        io::ErrorKind::InvalidInput if action == "open" => {
            "a folder, a pipe or a device cannot hold weights; put a regular file there"
        }
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check the permissions of the file and its folder",
        io::ErrorKind::StorageFull => "free some space or write to another disk; nothing was left behind",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
