//! Where a model runs.

use std::sync::Arc;

use taipan_gpu::{AdapterReport, Backends, Gpu, GpuRequest, list_adapters};

use crate::error::{Error, Result};

/// The CPU, or an open GPU device. Cheap to clone; clones are the same device.
#[derive(Clone, Debug)]
pub struct Device(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Cpu,
    Gpu(Arc<Gpu>),
}

impl Device {
    /// The CPU: the reference twins with vectorised matrix products on all cores.
    #[must_use]
    pub fn cpu() -> Self {
        Self(Kind::Cpu)
    }

    /// Opens a GPU.
    ///
    /// # Errors
    /// `NoAdapter`, `LimitTooSmall`, or whatever the driver reports.
    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "a browser's handles stay on their thread")
    )]
    pub async fn gpu(request: &GpuRequest) -> Result<Self> {
        Ok(Self(Kind::Gpu(Arc::new(Gpu::open(request).await?))))
    }

    /// A real GPU if there is one, else the CPU, which is faster than a software adapter. The note says so in one line
    /// when it is not a real GPU.
    ///
    /// # Errors
    /// A real GPU exists but cannot be opened.
    pub async fn auto(backends: Backends) -> Result<(Self, Option<String>)> {
        let adapters = list_adapters(backends).await;
        if adapters.iter().any(|a| a.auto) {
            let request = GpuRequest { backends, ..GpuRequest::default() };
            return Ok((Self::gpu(&request).await?, None));
        }
        let note = match adapters.first() {
            Some(a) => format!("no GPU but the software adapter {}; running on the CPU, which is faster", a.name),
            None => "no GPU found; running on the CPU".to_owned(),
        };
        Ok((Self::cpu(), Some(note)))
    }

    /// One line for people.
    #[must_use]
    pub fn description(&self) -> String {
        match &self.0 {
            Kind::Cpu => "CPU".to_owned(),
            Kind::Gpu(gpu) => format!("{} ({})", gpu.report().name, gpu.report().backend),
        }
    }

    /// Whether it is the CPU device.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        matches!(self.0, Kind::Cpu)
    }

    /// The adapter of a GPU device.
    #[must_use]
    pub fn adapter(&self) -> Option<&AdapterReport> {
        self.as_gpu().map(|gpu| gpu.report())
    }

    /// The GPU layer of a GPU device.
    #[must_use]
    pub fn as_gpu(&self) -> Option<&Arc<Gpu>> {
        match &self.0 {
            Kind::Cpu => None,
            Kind::Gpu(gpu) => Some(gpu),
        }
    }
}

impl From<taipan_gpu::GpuError> for Error {
    fn from(error: taipan_gpu::GpuError) -> Self {
        use taipan_gpu::GpuError as E;
        match error {
            E::NoAdapter { wanted, found } => Self::NoAdapter { wanted, found },
            E::LimitTooSmall { limit, what, needed, available, .. } => {
                Self::LimitTooSmall { limit: limit.to_owned(), needed, available, what }
            }
            E::DeviceLost { reason } => Self::DeviceLost { reason },
            E::OutOfMemory { message } => Self::OutOfMemory { what: message, bytes: 0 },
            other => Self::Gpu { message: other.to_string() },
        }
    }
}
