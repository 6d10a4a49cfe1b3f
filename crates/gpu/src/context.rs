//! Adapter and device request; capabilities are decided here, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{Adapter, Backends, Features, Instance, InstanceDescriptor, InstanceFlags, Limits};

use crate::{AdapterReport, GpuError, Pipeline, counts::Counters, pipeline::PipelineKey};

/// Which adapter to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// The most capable one, a software adapter if there is no other.
    #[default]
    Any,
    /// By its position in [`list_adapters`].
    Index(usize),
    /// The first whose name or driver contains this, in any case.
    Name(String),
}

/// A wish for a device.
#[derive(Clone, Debug)]
pub struct GpuRequest {
    /// Backends that may be used. GL is not among the default ones: few of its drivers can bind eight storage buffers.
    pub backends: Backends,
    /// Which adapter.
    pub select: Select,
    /// Ask for nothing beyond WebGPU's default limits and no feature, whatever the adapter offers.
    pub base_tier: bool,
}

impl Default for GpuRequest {
    fn default() -> Self {
        Self { backends: Backends::PRIMARY, select: Select::Any, base_tier: false }
    }
}

/// A device with what it may do, its pipelines, and whatever has gone wrong with it.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    report: AdapterReport,
    limits: Limits,
    features: Features,
    trouble: Arc<Mutex<Trouble>>,
    pub(crate) pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    pub(crate) dummy: wgpu::Buffer,
    pub(crate) counters: Arc<Counters>,
}

#[derive(Default)]
struct Trouble {
    lost: Option<String>,
    error: Option<GpuError>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("adapter", &self.report.name).finish_non_exhaustive()
    }
}

fn instance(backends: Backends) -> Instance {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    // No validation layers, and none of wgpu's extra dispatches in front of indirect ones: our own kernels write the
    // arguments, and they are bounded by the segment.
    descriptor.flags = InstanceFlags::empty();
    Instance::new(descriptor)
}

async fn adapters(backends: Backends) -> Vec<Adapter> {
    let instance = instance(backends);
    if cfg!(target_arch = "wasm32") {
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        return instance.request_adapter(&options).await.into_iter().collect();
    }
    instance.enumerate_adapters(backends).await
}

/// What is known about each adapter.
async fn reports(adapters: &[Adapter]) -> Vec<AdapterReport> {
    let mut reports = Vec::with_capacity(adapters.len());
    for (index, adapter) in adapters.iter().enumerate() {
        let info = adapter.get_info();
        #[cfg(target_arch = "wasm32")]
        let info = crate::browser::named(info).await;
        reports.push(AdapterReport::new(index, &info, adapter.features(), &adapter.limits()));
    }
    reports
}

fn best(reports: &[AdapterReport]) -> Option<usize> {
    // `max_by_key` keeps the last of equals, so go backwards: the first adapter wins.
    reports.iter().rev().filter(|r| r.rank() > 0).max_by_key(|r| r.rank()).map(|r| r.index)
}

/// Every adapter of the given backends; the one that `auto` takes is marked, and none is if all are software.
pub async fn list_adapters(backends: Backends) -> Vec<AdapterReport> {
    let mut reports = reports(&adapters(backends).await).await;
    if let Some(best) = best(&reports) {
        reports[best].auto = true;
    }
    reports
}

fn choose(reports: &[AdapterReport], select: &Select) -> Option<usize> {
    match select {
        Select::Any => best(reports).or((!reports.is_empty()).then_some(0)),
        Select::Index(index) => (*index < reports.len()).then_some(*index),
        Select::Name(name) => {
            let name = name.to_lowercase();
            let hit =
                |r: &&AdapterReport| r.name.to_lowercase().contains(&name) || r.driver.to_lowercase().contains(&name);
            reports.iter().find(hit).map(|r| r.index)
        }
    }
}

impl Gpu {
    /// Opens a device.
    ///
    /// # Errors
    /// No adapter matches, it lacks a WebGPU default limit, or the driver refuses.
    pub async fn open(request: &GpuRequest) -> Result<Self, GpuError> {
        let adapters = adapters(request.backends).await;
        let reports = reports(&adapters).await;
        let index = choose(&reports, &request.select).ok_or_else(|| GpuError::NoAdapter {
            wanted: match &request.select {
                Select::Any => "any".to_owned(),
                Select::Index(index) => format!("number {index}"),
                Select::Name(name) => format!("\"{name}\""),
            },
            found: reports.iter().map(|r| format!("{}: {} ({})", r.index, r.name, r.backend)).collect(),
        })?;
        Self::from_adapter(&adapters[index], reports[index].clone(), request.base_tier).await
    }

    async fn from_adapter(adapter: &Adapter, report: AdapterReport, base_tier: bool) -> Result<Self, GpuError> {
        let limits = wanted_limits(&report.name, &adapter.limits(), base_tier)?;
        let features = if base_tier { Features::empty() } else { adapter.features() & Features::TIMESTAMP_QUERY };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("taipan"),
            required_features: features,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| GpuError::Driver { message: format!("{}: {e}", report.name) })?;
        let trouble = watch(&device);
        let dummy = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("unused binding"),
            size: 64,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let (pipelines, counters) = (Mutex::default(), Arc::default());
        Ok(Self { device, queue, report, limits, features, trouble, pipelines, dummy, counters })
    }

    /// The adapter behind the device.
    #[must_use]
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// Largest storage binding in bytes.
    #[must_use]
    pub fn max_binding(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size)
    }

    /// Whether the device measures time.
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        self.features.contains(Features::TIMESTAMP_QUERY)
    }

    /// Destroys the device, as a driver reset would: everything after it fails with [`GpuError::DeviceLost`].
    pub fn destroy(&self) {
        self.device.destroy();
        self.trouble().lost.get_or_insert_with(|| "the device was destroyed".to_owned());
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first thing that went wrong since the last check; a lost device stays lost.
    ///
    /// # Errors
    /// That thing.
    pub fn check(&self) -> Result<(), GpuError> {
        let mut trouble = self.trouble();
        if let Some(reason) = &trouble.lost {
            return Err(GpuError::DeviceLost { reason: reason.clone() });
        }
        trouble.error.take().map_or(Ok(()), Err)
    }
}

/// Collects lost-device and uncaptured errors, which wgpu reports out of band.
fn watch(device: &wgpu::Device) -> Arc<Mutex<Trouble>> {
    let trouble = Arc::new(Mutex::new(Trouble::default()));
    let lost = Arc::clone(&trouble);
    device.set_device_lost_callback(move |reason, message| {
        let text = if message.is_empty() { format!("{reason:?}") } else { message };
        lost.lock().unwrap_or_else(PoisonError::into_inner).lost.get_or_insert(text);
    });
    let errors = Arc::clone(&trouble);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let message = error.to_string();
        let error = match error {
            wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { message },
            _ => GpuError::Driver { message },
        };
        errors.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert(error);
    }));
    trouble
}

/// WebGPU's defaults, and with them the adapter's own values of the four limits that let larger models fit.
fn wanted_limits(adapter: &str, available: &Limits, base_tier: bool) -> Result<Limits, GpuError> {
    let base = Limits::default();
    let need = |limit, needed: u64, available: u64| {
        if available >= needed {
            return Ok(());
        }
        Err(GpuError::LimitTooSmall {
            adapter: adapter.to_owned(),
            limit,
            what: "every kernel".to_owned(),
            needed,
            available,
        })
    };
    let a = available;
    need("maxStorageBuffersPerShaderStage", 8, a.max_storage_buffers_per_shader_stage.into())?;
    need("maxComputeInvocationsPerWorkgroup", 256, a.max_compute_invocations_per_workgroup.into())?;
    need("maxComputeWorkgroupStorageSize", 16_384, a.max_compute_workgroup_storage_size.into())?;
    need("maxStorageBufferBindingSize", base.max_storage_buffer_binding_size, a.max_storage_buffer_binding_size)?;
    let base = base.or_worse_values_from(available);
    if base_tier {
        return Ok(base);
    }
    Ok(Limits {
        max_storage_buffers_per_shader_stage: a.max_storage_buffers_per_shader_stage,
        max_storage_buffer_binding_size: a.max_storage_buffer_binding_size,
        max_buffer_size: a.max_buffer_size,
        max_compute_workgroup_storage_size: a.max_compute_workgroup_storage_size,
        ..base
    })
}
