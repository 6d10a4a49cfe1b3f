//! Adapter and device request; capabilities are decided here, once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::oneshot;
use taipan_kernels::{Subgroups, Tuning, TuningTable};
use wgpu::{Adapter, Backends, Features, Instance, InstanceDescriptor, InstanceFlags, Limits};

use crate::report::Shortfall;
use crate::together::{self, WAITING};
use crate::{AdapterReport, Buffer, GpuError, Pipeline, counts::Counters, pipeline::PipelineKey};

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
    /// Let kernels exchange numbers within subgroups where the adapter has them: the same results with fewer waits. The
    /// default is what was tried: in a browser.
    pub subgroups: bool,
    /// Workgroups that may wait for each other at most, see [`Gpu::together`]; the default is what was measured: none on
    /// most devices.
    pub together: Option<u32>,
}

impl Default for GpuRequest {
    fn default() -> Self {
        Self {
            backends: Backends::PRIMARY,
            select: Select::Any,
            base_tier: false,
            subgroups: cfg!(target_arch = "wasm32"),
            together: None,
        }
    }
}

/// A device with what it may do, its pipelines, and whatever has gone wrong with it.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    report: AdapterReport,
    pub(crate) limits: Limits,
    pub(crate) features: Features,
    cooperative: AtomicBool,
    tuning: Mutex<Tuning>,
    trouble: Arc<Mutex<Trouble>>,
    pub(crate) pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    pub(crate) dummy: Buffer,
    pub(crate) counters: Arc<Counters>,
    /// Subgroups, where all kernels use them.
    pub(crate) subgroups: Option<Subgroups>,
    /// Subgroups as they were found.
    pub(crate) lanes: Option<Subgroups>,
    pub(crate) together: u32,
    pub(crate) blocks: AtomicU32,
}

#[derive(Default)]
struct Trouble {
    lost: Option<String>,
    error: Option<GpuError>,
    waiting: Vec<oneshot::Sender<String>>,
}

impl Trouble {
    fn lose(&mut self, reason: String) {
        let reason = self.lost.get_or_insert(reason);
        for sender in self.waiting.drain(..) {
            let _ = sender.send(reason.clone());
        }
    }
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

/// Real adapters, the best first.
fn by_rank(reports: &[AdapterReport]) -> Vec<usize> {
    let mut order: Vec<_> = reports.iter().filter(|r| !r.software).map(|r| r.index).collect();
    // A stable sort: the first of equals wins.
    order.sort_by_key(|i| std::cmp::Reverse(reports[*i].rank()));
    order
}

/// Opens the first that can be opened; the errors are those of the ones before it.
async fn first_usable<T>(
    order: &[usize],
    open: impl AsyncFn(usize) -> Result<T, GpuError>,
) -> (Option<T>, Vec<GpuError>) {
    let mut unusable = Vec::new();
    for index in order {
        match open(*index).await {
            Ok(device) => return (Some(device), unusable),
            Err(error) => unusable.push(error),
        }
    }
    (None, unusable)
}

/// What [`Gpu::auto`] found.
#[derive(Debug)]
pub struct Auto {
    /// The best real GPU that could be opened.
    pub gpu: Option<Gpu>,
    /// All adapters.
    pub adapters: Vec<AdapterReport>,
    /// Why each better real adapter could not be used.
    pub unusable: Vec<GpuError>,
}

fn choose(reports: &[AdapterReport], select: &Select) -> Option<usize> {
    match select {
        Select::Any => {
            // Without a real one the first that has the limits; without that any, for its error.
            let able = || reports.iter().find(|r| r.limits.shortfall().is_none()).map(|r| r.index);
            best(reports).or_else(able).or((!reports.is_empty()).then_some(0))
        }
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
        Self::from_adapter(&adapters[index], reports[index].clone(), request).await
    }

    /// Opens the best real adapter that can be opened, if there is one.
    pub async fn auto(backends: Backends) -> Auto {
        let found = adapters(backends).await;
        let reports = reports(&found).await;
        let request = GpuRequest { backends, ..GpuRequest::default() };
        let open = async |i: usize| Self::from_adapter(&found[i], reports[i].clone(), &request).await;
        let (gpu, unusable) = first_usable(&by_rank(&reports), open).await;
        Auto { gpu, adapters: reports, unusable }
    }

    async fn from_adapter(adapter: &Adapter, report: AdapterReport, request: &GpuRequest) -> Result<Self, GpuError> {
        let limits = wanted_limits(&report, &adapter.limits(), request.base_tier)?;
        let together = if request.base_tier { 0 } else { request.together.unwrap_or(together::usual(&report)) };
        let mut features =
            if request.base_tier { Features::empty() } else { wanted_features(adapter, &report, together > 0) };
        if request.subgroups && !request.base_tier {
            features |= adapter.features() & Features::SUBGROUP;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("taipan"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: experimental(features),
            ..Default::default()
        };
        let requested = request_device(adapter, &descriptor, request.subgroups && !request.base_tier);
        let (device, queue) =
            requested.await.map_err(|e| GpuError::Driver { message: format!("{}: {e}", report.name) })?;
        let trouble = watch(&device);
        let (pipelines, counters) = (Mutex::default(), Arc::default());
        let dummy = Buffer::new(&device, &counters, "unused binding", 64, wgpu::BufferUsages::STORAGE);
        let cooperative = features.contains(COOPERATIVE).into();
        let tuning = TuningTable::builtin().over(Tuning::default(), &report.key()).unwrap_or_default().into();
        let (subgroups, lanes) = (None, None);
        let mut gpu = Self {
            device,
            queue,
            report,
            limits,
            features,
            cooperative,
            tuning,
            trouble,
            pipelines,
            dummy,
            counters,
            subgroups,
            lanes,
            together,
            blocks: together::ALL.into(),
        };
        gpu.find_subgroups(request.subgroups).await;
        Ok(gpu)
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

    /// What kernels do differently on it.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        *self.tuning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a table says about this device, for whatever is prepared from now on. Whether it says anything.
    pub fn tune(&self, table: &TuningTable) -> bool {
        let mut tuning = self.tuning.lock().unwrap_or_else(PoisonError::into_inner);
        let tuned = table.over(*tuning, &self.report.key());
        *tuning = tuned.unwrap_or(*tuning);
        tuned.is_some()
    }

    /// The fewest lanes of a subgroup, where kernels use them.
    #[must_use]
    pub fn subgroups(&self) -> Option<u32> {
        self.subgroups.map(|subgroups| subgroups.fewest)
    }

    /// Whether the device may use subgroups.
    pub(crate) fn has_subgroups(&self) -> bool {
        #[cfg(target_arch = "wasm32")]
        return crate::browser::has_feature(&self.device, crate::browser::SUBGROUPS);
        #[cfg(not(target_arch = "wasm32"))]
        return self.features.contains(Features::SUBGROUP);
    }

    /// Whether kernels use cooperative matrices: they do where the adapter has those that they need.
    #[must_use]
    pub fn cooperative(&self) -> bool {
        self.cooperative.load(Ordering::Relaxed)
    }

    /// From now on no kernel is prepared that uses cooperative matrices.
    pub fn without_cooperative(&self) {
        self.cooperative.store(false, Ordering::Relaxed);
    }

    /// Whether the device measures time.
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        self.features.contains(Features::TIMESTAMP_QUERY)
    }

    /// Destroys the device, as a driver reset would: everything after it fails with [`GpuError::DeviceLost`].
    pub fn destroy(&self) {
        self.device.destroy();
        self.trouble().lose("the device was destroyed".to_owned());
    }

    /// Resolves when the device is lost, to the reason; never, if the device is let go of first.
    pub fn lost(&self) -> impl Future<Output = String> + use<> {
        let (sender, receiver) = oneshot::channel();
        let mut trouble = self.trouble();
        match &trouble.lost {
            Some(reason) => drop(sender.send(reason.clone())),
            None => trouble.waiting.push(sender),
        }
        async move {
            match receiver.await {
                Ok(reason) => reason,
                Err(_) => std::future::pending().await,
            }
        }
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

/// wgpu does not know that browsers have subgroups, so there they are asked for behind its back.
fn request_device(
    adapter: &Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
    subgroups: bool,
) -> impl Future<Output = Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError>> + use<> {
    let request = || adapter.request_device(descriptor);
    #[cfg(target_arch = "wasm32")]
    if subgroups {
        return crate::browser::unlocked(crate::browser::SUBGROUPS, request);
    }
    let _ = subgroups; // natively it is a feature like others
    request()
}

/// Collects lost-device and uncaptured errors, which wgpu reports out of band.
fn watch(device: &wgpu::Device) -> Arc<Mutex<Trouble>> {
    let trouble = Arc::new(Mutex::new(Trouble::default()));
    let lost = Arc::clone(&trouble);
    device.set_device_lost_callback(move |reason, message| {
        let text = if message.is_empty() { format!("{reason:?}") } else { message };
        lost.lock().unwrap_or_else(PoisonError::into_inner).lose(text);
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

/// What a kernel with cooperative matrices asks for.
const COOPERATIVE: Features = Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(Features::SHADER_F16);

/// Bytes of workgroup memory that such a kernel may use.
pub const COOPERATIVE_MEMORY: u32 = 40_960;

/// Timestamps; cooperative matrices of the kind that kernels are written for; what those that wait need.
fn wanted_features(adapter: &Adapter, report: &AdapterReport, waiting: bool) -> Features {
    let half_to_float = |p: wgpu::CooperativeMatrixProperties| {
        (p.m_size, p.n_size, p.k_size) == (16, 16, 16)
            && p.ab_type == wgpu::CooperativeScalarType::F16
            && p.cr_type == wgpu::CooperativeScalarType::F32
    };
    let able = report.limits.subgroup_size == [32, 32]
        && report.limits.workgroup_memory_bytes >= COOPERATIVE_MEMORY
        && adapter.features().contains(COOPERATIVE)
        && adapter.cooperative_matrix_properties().into_iter().any(half_to_float);
    let cooperative = if able { COOPERATIVE } else { Features::empty() };
    let waiting = if waiting && adapter.features().contains(WAITING) { WAITING } else { Features::empty() };
    (adapter.features() & Features::TIMESTAMP_QUERY) | cooperative | waiting
}

#[expect(unsafe_code, reason = "wgpu hands out no other permission for what it calls experimental")]
fn experimental(features: Features) -> wgpu::ExperimentalFeatures {
    if !features.contains(COOPERATIVE) {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: wgpu's checks of cooperative matrices may have gaps. Only our own shaders run. They load and store blocks,
    // 16 bytes aligned, of workgroup memory, and of buffers where the whole block is inside.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// WebGPU's defaults, and with them the adapter's own values of the four limits that let larger models fit.
fn wanted_limits(report: &AdapterReport, available: &Limits, base_tier: bool) -> Result<Limits, GpuError> {
    if let Some(Shortfall { limit, needed, available }) = report.limits.shortfall() {
        let (adapter, what) = (report.name.clone(), "every kernel".to_owned());
        return Err(GpuError::LimitTooSmall { adapter, limit, what, needed, available });
    }
    let a = available;
    let base = Limits::default().or_worse_values_from(available);
    if base_tier {
        return Ok(base);
    }
    Ok(Limits {
        max_storage_buffers_per_shader_stage: a.max_storage_buffers_per_shader_stage,
        max_storage_buffer_binding_size: a.max_storage_buffer_binding_size,
        max_buffer_size: a.max_buffer_size,
        max_compute_workgroup_storage_size: a.max_compute_workgroup_storage_size,
        max_compute_workgroup_size_x: a.max_compute_workgroup_size_x,
        max_compute_invocations_per_workgroup: a.max_compute_invocations_per_workgroup,
        ..base
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::card;

    fn at(index: usize, change: impl FnOnce(&mut AdapterReport)) -> AdapterReport {
        let mut report = AdapterReport { index, ..card() };
        change(&mut report);
        report
    }

    #[test]
    fn adapters_that_cannot_be_used_come_last_and_software_never() {
        let reports = [
            at(0, |r| r.software = true),
            at(1, |r| r.limits.storage_buffers = 4),
            at(2, |r| r.kind = "integrated".to_owned()),
            at(3, |_| {}),
            at(4, |_| {}),
        ];
        assert_eq!(by_rank(&reports), [3, 4, 2, 1]);
        assert_eq!(best(&reports), Some(3));
        // Nothing real that is able: the software adapter rather than a card that will be refused.
        let reports = [at(0, |r| r.limits.storage_buffers = 4), at(1, |r| r.software = true)];
        assert_eq!((best(&reports), choose(&reports, &Select::Any)), (None, Some(1)));
    }

    #[test]
    fn the_next_one_is_tried() {
        let open = async |i: usize| match i {
            2 => Ok(i),
            _ => Err(GpuError::Driver { message: format!("card {i}") }),
        };
        let (found, errors) = pollster::block_on(first_usable(&[7, 2, 1], open));
        assert_eq!((found, errors.len()), (Some(2), 1));
        assert!(errors[0].to_string().contains("card 7"));
        let (found, errors) = pollster::block_on(first_usable(&[7, 1], open));
        assert_eq!((found, errors.len()), (None, 2));
    }
}
