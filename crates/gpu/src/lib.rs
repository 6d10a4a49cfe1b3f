//! Thin wgpu layer: adapters and devices, pipelines, buffers, dispatches, readback. It knows no model.

#![forbid(unsafe_code)]

#[cfg(target_arch = "wasm32")]
mod browser;
mod context;
mod dispatch;
mod error;
mod memory;
mod pipeline;
mod report;
mod timer;

pub use context::{Gpu, GpuRequest, Select, list_adapters};
pub use dispatch::{Bound, Prepared};
pub use error::GpuError;
pub use memory::{Buffer, Readback};
pub use pipeline::Pipeline;
pub use report::{AdapterReport, FeatureReport, LimitReport};
pub use timer::Timer;
pub use wgpu::{Backends, CommandEncoder, ComputePass, ComputePassDescriptor, ComputePassTimestampWrites};
