//! Declarations of the Taipan kernels: arguments, parameters, bindings, overrides and grids, one file per kernel.
//!
//! Nothing here touches a device. A [`Call`] names its weights and buffers; an executor owns the memory and runs lists of
//! calls: `taipan::run::cpu` through the twins of `taipan-reference`, `taipan::run::gpu` through the shaders of
//! `taipan-shaders`. A test reflects every shader and compares it with its declaration, so neither can drift.

//!
//! ```
//! use taipan_kernels::{BufferId, Call, Kernel, Piece, RmsNorm, Rows, Vector};
//!
//! let (x, out) = (Rows { buffer: BufferId::Scratch(0), cols: 64 }, Rows { buffer: BufferId::Scratch(1), cols: 64 });
//! let call = Call::from(RmsNorm { norm: Vector { id: 0, len: 64 }, eps: 1e-5, x, out });
//!
//! // What a device needs to know of it: a shader, where its numbers go, and how many workgroups run.
//! assert_eq!(call.decl().name, "rms_norm");
//! let launch = call.launch(Piece { first_row: 0, rows: 0 });
//! assert_eq!(launch.buffers, [Some(x.buffer), Some(out.buffer)]);
//! assert_eq!(launch.grid.groups(100), Some([1, 100, 1])); // one for each of 100 tokens
//! ```

#![forbid(unsafe_code)]

mod attention;
mod bmm_chunk;
mod call;
mod causal_conv1d;
mod chunk_cumsum;
mod chunk_scan;
mod chunk_state;
mod compact;
mod concat;
mod conv_append;
mod embed;
mod experts;
mod geglu;
mod ids;
mod kv_append;
mod launch;
mod logit_maxima;
mod matmul;
mod matvec;
mod merge_attention;
mod mixer_step;
mod mixer_update;
mod rms_norm;
mod rms_norm_gated;
mod rotary;
mod route;
mod sample;
mod ssm;
mod state_passing;
mod token_attention;
mod token_gate;
mod token_gate_kv;
mod token_step;
mod tuning;
mod window_attention;

pub use attention::Attention;
pub use bmm_chunk::BmmChunk;
pub use call::Call;
pub use causal_conv1d::CausalConv1d;
pub use chunk_cumsum::ChunkCumsum;
pub use chunk_scan::ChunkScan;
pub use chunk_state::ChunkState;
pub use compact::Compact;
pub use concat::Concat;
pub use conv_append::ConvAppend;
pub use embed::Embed;
pub use experts::Experts;
pub use geglu::Geglu;
pub use ids::{BufferDesc, BufferId, Element, Matrix, Rows, Vector, control, row_stride, sampler, selection};
pub use kv_append::KvAppend;
pub use launch::{Access, Binding, Cooperative, Decl, Grid, Kernel, Launch, Piece, Word, read, spread, weight, write};
pub use logit_maxima::LogitMaxima;
pub use matmul::{Matmul, Over, Selected};
pub use matvec::{Epilogue, Matvec, Norm};
pub use merge_attention::MergeAttention;
pub use mixer_step::MixerStep;
pub use mixer_update::MixerUpdate;
pub use rms_norm::RmsNorm;
pub use rms_norm_gated::RmsNormGated;
pub use rotary::Rotary;
pub use route::Route;
pub use sample::Sample;
pub use ssm::{Convolution, Mixer};
pub use state_passing::StatePassing;
pub use taipan_shaders::{GROUP, Shared, Subgroups, WeightFormat};
pub use token_attention::TokenAttention;
pub use token_gate::TokenGate;
pub use token_gate_kv::TokenGateKv;
pub use token_step::TokenStep;
pub use tuning::{DeviceKey, NEVER, TUNABLES, Tunable, Tuning, TuningEntry, TuningError, TuningTable};
pub use window_attention::WindowAttention;
