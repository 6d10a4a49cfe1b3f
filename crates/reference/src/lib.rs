//! Plain-Rust twins of every Taipan kernel: the oracle that the GPU and the fast twins of the CPU device are compared with,
//! and that device itself for everything that takes no time.
//!
//! One file per kernel, named as its shader. Sums run in f64 and results are rounded once to f32; every guard that
//! the specification asks for (softplus cut, segment sums, softmax with the maximum taken off, exact integer bucket)
//! is here in its plainest form. Matrices are dense and row-major; a weight matrix is `[out, in]` as PyTorch stores
//! it.
//!
//! ```
//! // Root mean square of 3 and 4 is √12.5.
//! let mut out = [0.0; 2];
//! taipan_reference::rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0, 2, 1, &mut out);
//! assert!((out[0] - 3.0 / 12.5f32.sqrt()).abs() < 1e-6);
//! assert!((out[1] - 8.0 / 12.5f32.sqrt()).abs() < 1e-6);
//! ```
//!
//! Shape letters: `n` tokens, `H` heads of size `P`, `G` groups, `N` = `d_state`, `q` chunk length, `w` window.
//!
//! Shapes are asserted on entry: a wrong length is a bug of the caller, and an oracle must not answer it with a
//! number. Where a function takes an explicit token count, buffers may be longer than that count needs.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![allow(
    clippy::too_many_arguments,
    reason = "a twin takes the buffers and parameters that its kernel binds, under the same names"
)]

mod activation;
mod bmm_chunk;
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
mod kv_append;
mod logit_maxima;
mod matmul;
mod matvec;
mod merge_attention;
mod mix_back;
mod rms_norm;
mod rms_norm_gated;
mod rotary;
mod route;
mod sample;
mod selective_state_update;
mod ssm;
mod state_passing;
mod sum;
mod swiglu;
#[cfg(test)]
mod testing;
mod token_gate;
mod window_attention;

pub use activation::{gate, relu2, sigmoid, silu, softplus};
pub use bmm_chunk::bmm_chunk;
pub use causal_conv1d::{Conv, causal_conv1d};
pub use chunk_cumsum::chunk_cumsum;
pub use chunk_scan::chunk_scan;
pub use chunk_state::chunk_state;
pub use compact::{compact, sal};
pub use concat::concat;
pub use conv_append::conv_append;
pub use embed::embed;
pub use experts::{Projection, experts};
pub use geglu::geglu;
pub use kv_append::kv_append;
pub use logit_maxima::logit_maxima;
pub use matmul::matmul;
pub use matvec::matvec;
pub use merge_attention::merge_attention;
pub use mix_back::mix_back;
pub use rms_norm::rms_norm;
pub use rms_norm_gated::{GateMode, rms_norm_gated};
pub use rotary::{rotary, rotary_table};
pub use route::{Routing, route};
pub use sample::{RECENT, Sampling, sample, uniform};
pub use selective_state_update::selective_state_update;
pub use ssm::{Heads, Ssm};
pub use state_passing::state_passing;
pub use swiglu::swiglu;
pub use token_gate::token_gate;
pub use window_attention::{Attention, window_attention};
