//! Portable runtime for Mamba-2 and Taipan language models.
//!
//! A [`Model`] is opened on a [`Device`]: the CPU, or any GPU that wgpu reaches (Vulkan, Metal, DX12, a browser's WebGPU).
//! A [`Session`] of it is one text in progress, with memory that does not grow: [`Session::prefill`] feeds a prompt,
//! [`Session::generate`] continues it as a stream of tokens, [`Session::save`] and [`Session::fork`] keep and copy its state.
//!
//! ```
//! use std::pin::pin;
//!
//! use futures::TryStreamExt;
//! use taipan::{Device, GenerateOptions, LoadOptions, Model, ModelFiles, SessionOptions};
//!
//! // A checkpoint of random weights stands for the folder that `Model::open` takes: what it writes is noise.
//! const CONFIG: &str = r#"{
//!     "model_type": "taipan", "vocab_size": 48, "hidden_size": 32,
//!     "layer_types": ["mamba2", "selective_attention"],
//!     "mamba2": { "d_state": 8, "d_conv": 4, "expand": 2, "head_dim": 16, "n_groups": 1 },
//!     "selective_attention": { "num_heads": 2, "head_dim": 16, "window": 8, "intermediate_size": 48 }
//! }"#;
//!
//! # pollster::block_on(async {
//! let files = ModelFiles::random(CONFIG, 1)?;
//! let model = Model::from_bytes(files, &Device::cpu(), LoadOptions::default()).await?;
//!
//! let mut session = model.session(SessionOptions::default())?;
//! session.prefill(&[1, 2, 3]).await?;
//! let options = GenerateOptions { max_tokens: Some(5), ..GenerateOptions::default() };
//! {
//!     let mut tokens = pin!(session.generate(options));
//!     while let Some(token) = tokens.try_next().await? {
//!         println!("token {}", token.id);
//!     }
//! }
//! assert_eq!(session.position(), 8);
//! # Ok::<_, taipan::Error>(())
//! # })?;
//! # Ok::<_, taipan::Error>(())
//! ```
//!
//! How it works, from the outside in: [`config`] and [`weights`] read a checkpoint, [`description`] says what the model
//! is, [`layers`] turns that into lists of kernel calls, [`run`] executes a list on the CPU or on a GPU.

#![deny(unsafe_code)]

pub mod config;
pub mod description;
mod device;
pub mod error;
mod footprint;
pub mod fsutil;
mod generation;
pub mod layers;
mod load;
mod memory;
mod model;
pub mod quant;
mod quantize;
pub mod run;
mod session;
mod shape;
#[cfg(feature = "tokenizer")]
pub mod tokenizer;
#[cfg(not(feature = "tokenizer"))]
#[path = "tokenizer/absent.rs"]
pub mod tokenizer;
pub mod weights;

pub use config::{
    Activation, AttentionConfig, Config, ExpertsConfig, Family, LayerType, Mamba2Config, MixerScales, MlpConfig, Rope,
    SalConfig, Scales, SharedConfig,
};
pub use device::Device;
#[cfg(not(target_arch = "wasm32"))]
pub use device::read_tuning;
pub use error::{Error, Result, SavedStateProblem};
pub use footprint::Footprint;
pub use generation::GenerationDefaults;
pub use load::{Progress, WeightDtype, matrix_pieces};
pub use model::{DeviceWeights, LoadOptions, Model, ModelFiles};
pub use quant::Quant;
#[cfg(not(target_arch = "wasm32"))]
pub use quantize::quantize_folder;
pub use quantize::{Quantized, quantize};
pub use session::{
    AttentionBound, Bytes, Finish, GateTrace, GenerateOptions, Rows, SalStats, Session, SessionOptions, Stats, Token,
};
pub use taipan_gpu::{AdapterReport, Backends, GpuRequest, Select, list_adapters};
pub use taipan_kernels::{TuningError, TuningTable};
pub use taipan_reference::{Routing, Sampling};
pub use tokenizer::{TextDecoder, Tokenizer};
pub use weights::{
    Dtype, ElementType, FileStart, Gguf, GgufDescription, Headers, RangedWeights, Tensor, TensorInfo, WeightSource,
    Weights, WeightsProblem,
};
