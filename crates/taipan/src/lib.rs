//! Portable runtime for Mamba-2 and Taipan language models.
//!
//! A [`Model`] is opened on a [`Device`]: the CPU, or any GPU that wgpu reaches (Vulkan, Metal, DX12, a browser's WebGPU).
//! A [`Session`] of it is one text in progress, with memory that does not grow: [`Session::prefill`] feeds a prompt,
//! [`Session::generate`] continues it as a stream of tokens, [`Session::save`] and [`Session::fork`] keep and copy its state.
//!
//! How it works, from the outside in: [`config`] and [`weights`] read a checkpoint, [`description`] says what the model
//! is, [`layers`] turns that into lists of kernel calls, [`run`] executes a list on the CPU or on a GPU.

#![deny(unsafe_code)]

pub mod config;
pub mod description;
mod device;
pub mod error;
pub mod fsutil;
pub mod layers;
mod load;
mod model;
pub mod run;
mod session;
pub mod tokenizer;
pub mod weights;

pub use config::{Config, LayerType, Mamba2Config, SalConfig};
pub use device::Device;
pub use error::{Error, Result, SavedStateProblem};
pub use load::{Progress, WeightDtype, matrix_pieces};
pub use model::{DeviceWeights, Footprint, LoadOptions, Model, ModelFiles};
pub use session::{
    AttentionBound, Bytes, Finish, GateTrace, GenerateOptions, Rows, SalStats, Session, SessionOptions, Stats, Token,
};
pub use taipan_gpu::{AdapterReport, Backends, GpuRequest, Select, list_adapters};
pub use taipan_reference::Sampling;
pub use tokenizer::{TextDecoder, Tokenizer};
pub use weights::{Dtype, ElementType, Headers, Tensor, TensorInfo, Weights, WeightsProblem};
