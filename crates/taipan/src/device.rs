//! Where a model runs.

use std::sync::Arc;

use taipan_gpu::{AdapterReport, Backends, Gpu, GpuError, GpuRequest};
use taipan_kernels::TuningTable;

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

    /// The best real GPU that can be used, else the CPU, which is faster than a software adapter. The note says in one
    /// line why it is not the best GPU there is, or no GPU at all.
    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "a browser's handles stay on their thread")
    )]
    pub async fn auto(backends: Backends) -> (Self, Option<String>) {
        let found = Gpu::auto(backends).await;
        let device = found.gpu.map_or(Kind::Cpu, |gpu| Kind::Gpu(Arc::new(gpu)));
        let device = Self(device);
        let note = note(&device, &found.adapters, &found.unusable);
        (device, note)
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

    /// Takes over what a table of tunings says about this device, for models opened from now on: what is faster on it, never
    /// what comes out. Whether the table says anything about it; the CPU has nothing to tune.
    pub fn tune(&self, table: &TuningTable) -> bool {
        self.as_gpu().is_some_and(|gpu| gpu.tune(table))
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

/// Reads a table of tunings, for [`Device::tune`].
///
/// # Errors
/// `Io`; `Tuning` where it says something that is unknown or not allowed.
#[cfg(not(target_arch = "wasm32"))]
pub fn read_tuning(path: &std::path::Path) -> Result<TuningTable> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    TuningTable::from_json(&bytes).map_err(|problem| Error::Tuning { file: path.display().to_string(), problem })
}

/// Why `auto` takes what it takes, unless that is the best GPU.
fn note(device: &Device, adapters: &[AdapterReport], unusable: &[GpuError]) -> Option<String> {
    if let Some(reason) = unusable.first() {
        // A driver may say much; this is one line.
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        return Some(format!(
            "not used: {reason}; running on {}",
            if device.is_cpu() { "the CPU".to_owned() } else { device.description() }
        ));
    }
    match (device.is_cpu(), adapters.first()) {
        (false, _) => None,
        (true, Some(a)) => {
            Some(format!("no GPU but the software adapter {}; running on the CPU, which is faster", a.name))
        }
        (true, None) => Some("no GPU found; running on the CPU".to_owned()),
    }
}

impl From<GpuError> for Error {
    fn from(error: GpuError) -> Self {
        use GpuError as E;
        match error {
            E::NoAdapter { wanted, found } => Self::NoAdapter { wanted, found },
            E::LimitTooSmall { limit, what, needed, available, .. } => {
                Self::LimitTooSmall { limit: limit.to_owned(), needed, available, what }
            }
            E::DeviceLost { reason } => Self::DeviceLost { reason },
            E::OutOfMemory { message } => Self::OutOfMemory { what: message, bytes: None },
            E::Driver { message } => Self::Gpu { message },
            other => Self::Gpu { message: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_says_in_one_line_why() {
        let cpu = Device::cpu();
        assert_eq!(note(&cpu, &[], &[]).unwrap(), "no GPU found; running on the CPU");
        let refused = GpuError::Driver { message: "Old Card: no memory\n  at all".to_owned() };
        assert_eq!(
            note(&cpu, &[], &[refused]).unwrap(),
            "not used: GPU error: Old Card: no memory at all; running on the CPU"
        );
    }
}
