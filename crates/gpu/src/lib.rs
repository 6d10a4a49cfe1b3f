//! Thin wgpu layer: adapters and devices, pipelines, buffers, dispatches, readback. It knows no model.

//!
//! ```
//! use taipan_gpu::{Gpu, GpuError, GpuRequest};
//!
//! # pollster::block_on(async {
//! // Any adapter will do, a software one too.
//! let gpu = match Gpu::open(&GpuRequest::default()).await {
//!     Ok(gpu) => gpu,
//!     Err(error @ GpuError::NoAdapter { .. }) => {
//!         println!("{error}");
//!         return Ok(());
//!     }
//!     Err(error) => return Err(error),
//! };
//! println!("{} by {}", gpu.report().name, gpu.report().backend);
//!
//! let (source, target) = (gpu.buffer("source", 16), gpu.readback(16));
//! gpu.write(&source, 0, &[1u32, 2, 3, 4]);
//! let mut encoder = gpu.encoder();
//! gpu.copy_to_readback(&mut encoder, &source, &target, 16);
//! gpu.submit(encoder);
//! assert_eq!(gpu.read(&target, 4).await?, [1, 2, 3, 4]);
//! # Ok(())
//! # })?;
//! # Ok::<_, GpuError>(())
//! ```

#[cfg(target_arch = "wasm32")]
mod browser;
mod clock;
mod context;
mod counts;
mod dispatch;
mod error;
mod memory;
mod pipeline;
mod report;
mod subgroups;
mod timer;
mod together;

pub use clock::now_ms;
pub use context::{Auto, COOPERATIVE_MEMORY, Gpu, GpuRequest, Select, list_adapters};
pub use counts::Counts;
pub use dispatch::{Bound, Prepared};
pub use error::GpuError;
pub use memory::{Buffer, Readback, Reading, Submission, give_way};
pub use pipeline::Pipeline;
pub use report::{AdapterReport, FeatureReport, LimitReport};
pub use timer::Timer;
pub use wgpu::{Backends, CommandEncoder, ComputePass, ComputePassDescriptor, ComputePassTimestampWrites};
