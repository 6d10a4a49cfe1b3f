//! What an adapter is and can do, in a form for people and machines.

use serde::Serialize;
use taipan_kernels::DeviceKey;
use wgpu::{AdapterInfo, DeviceType, Features, Limits};

/// Description of one adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterReport {
    /// Position in the list of adapters.
    pub index: usize,
    /// Name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, `gl` or `webgpu`.
    pub backend: String,
    /// Driver name.
    pub driver: String,
    /// Driver version and such.
    pub driver_info: String,
    /// PCI vendor.
    pub vendor: u32,
    /// PCI device.
    pub device: u32,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: String,
    /// Whether it is a software implementation (llvmpipe, SwiftShader, WARP): correct, but slower than the CPU device.
    pub software: bool,
    /// Features, for information.
    pub features: FeatureReport,
    /// Limits that matter here.
    pub limits: LimitReport,
    /// Whether `auto` takes it.
    pub auto: bool,
}

/// Features that people ask about. For information: kernels need none of them, and results do not depend on what an adapter
/// has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureReport {
    /// f16 in shaders.
    pub shader_f16: bool,
    /// Subgroup operations.
    pub subgroups: bool,
    /// GPU timestamps.
    pub timestamps: bool,
}

/// Limits that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitReport {
    /// Storage buffers of a shader.
    pub storage_buffers: u32,
    /// Bytes of one storage binding.
    pub storage_binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory_bytes: u32,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Subgroup sizes, smallest and largest, for information.
    pub subgroup_size: [u32; 2],
}

/// A limit that an adapter lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortfall {
    pub(crate) limit: &'static str,
    pub(crate) needed: u64,
    pub(crate) available: u64,
}

impl LimitReport {
    /// The first limit below what every kernel needs, which is WebGPU's default.
    pub(crate) fn shortfall(&self) -> Option<Shortfall> {
        let base = Limits::default();
        let limits = [
            ("maxStorageBuffersPerShaderStage", 8, self.storage_buffers.into()),
            ("maxComputeInvocationsPerWorkgroup", 256, self.workgroup_invocations.into()),
            ("maxComputeWorkgroupStorageSize", 16_384, self.workgroup_memory_bytes.into()),
            ("maxStorageBufferBindingSize", base.max_storage_buffer_binding_size, self.storage_binding_bytes),
        ];
        let short = limits.into_iter().find(|(_, needed, available)| available < needed);
        short.map(|(limit, needed, available)| Shortfall { limit, needed, available })
    }
}

impl AdapterReport {
    pub(crate) fn new(index: usize, info: &AdapterInfo, features: Features, limits: &Limits) -> Self {
        Self {
            index,
            name: info.name.clone(),
            backend: backend_name(info.backend).to_owned(),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            vendor: info.vendor,
            device: info.device,
            kind: kind(info.device_type).to_owned(),
            software: is_software(info),
            features: FeatureReport {
                shader_f16: features.contains(Features::SHADER_F16),
                subgroups: features.contains(Features::SUBGROUP),
                timestamps: features.contains(Features::TIMESTAMP_QUERY),
            },
            limits: LimitReport {
                storage_buffers: limits.max_storage_buffers_per_shader_stage,
                storage_binding_bytes: limits.max_storage_buffer_binding_size,
                buffer_bytes: limits.max_buffer_size,
                workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
                workgroup_invocations: limits.max_compute_invocations_per_workgroup,
                subgroup_size: [info.subgroup_min_size, info.subgroup_max_size],
            },
            auto: false,
        }
    }

    /// What a table of tunings goes by.
    #[must_use]
    pub fn key(&self) -> DeviceKey {
        DeviceKey {
            software: Some(self.software),
            kind: Some(self.kind.clone()),
            vendor: Some(format!("{:#06x}", self.vendor)),
            device: Some(format!("{:#06x}", self.device)),
            backend: Some(self.backend.clone()),
        }
    }

    /// How much `auto` likes it; 0 is not at all.
    pub(crate) fn rank(&self) -> u32 {
        if self.software || self.limits.shortfall().is_some() {
            return 0;
        }
        let kind = match self.kind.as_str() {
            "discrete" => 40,
            "integrated" => 30,
            "virtual" => 20,
            _ => 10,
        };
        // The same card shows up once per backend; GL is the last resort.
        kind + u32::from(self.backend != "gl")
    }
}

fn backend_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "vulkan",
        wgpu::Backend::Metal => "metal",
        wgpu::Backend::Dx12 => "dx12",
        wgpu::Backend::Gl => "gl",
        wgpu::Backend::BrowserWebGpu => "webgpu",
        wgpu::Backend::Noop => "noop",
    }
}

fn kind(device_type: DeviceType) -> &'static str {
    match device_type {
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Cpu => "cpu",
        DeviceType::Other => "other",
    }
}

/// Drivers that call themselves something else than a CPU are known by name.
fn is_software(info: &AdapterInfo) -> bool {
    const NAMES: [&str; 5] = ["llvmpipe", "lavapipe", "swiftshader", "microsoft basic render", "softpipe"];
    let name = info.name.to_lowercase();
    info.device_type == DeviceType::Cpu || NAMES.iter().any(|n| name.contains(n))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A discrete card with WebGPU's default limits.
    pub(crate) fn card() -> AdapterReport {
        let info = AdapterInfo::new(DeviceType::DiscreteGpu, wgpu::Backend::Vulkan);
        AdapterReport::new(0, &info, Features::empty(), &Limits::default())
    }

    #[test]
    fn what_lacks_a_default_limit_is_not_liked() {
        assert!(card().rank() > 0);
        let mut lacking = [card(), card(), card(), card()];
        lacking[0].limits.storage_buffers = 4;
        lacking[1].limits.workgroup_invocations = 128;
        lacking[2].limits.workgroup_memory_bytes = 16_383;
        lacking[3].limits.storage_binding_bytes -= 1;
        assert_eq!(lacking.map(|card| card.rank()), [0; 4]);
    }
}
