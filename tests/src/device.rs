//! The devices that tests run on. A missing GPU is a failure, never a skip.

use std::sync::OnceLock;

use taipan::{Device, GpuRequest};
use taipan_kernels::{DeviceKey, NEVER, TuningEntry, TuningTable};

/// The GPU (a software adapter counts) with everything it offers.
///
/// # Panics
/// If there is none: install a Vulkan driver (Debian: `apt-get install mesa-vulkan-drivers libvulkan1`).
#[must_use]
pub fn gpu() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| open(GpuRequest::default())).clone()
}

/// The same GPU held to WebGPU's default limits and no features.
///
/// # Panics
/// As [`gpu`].
#[must_use]
pub fn base_tier() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| open(GpuRequest { base_tier: true, ..GpuRequest::default() })).clone()
}

/// What cards have of the tunables where software adapters have something else.
pub const AS_A_CARD: [(&str, u32); 5] = [
    ("matvec_eight_from", NEVER),
    ("matvec_eight_integers_from", NEVER),
    ("matvec_lanes", 128),
    ("attention_part", 64),
    ("mixer_lanes", 32),
];

/// Rows of `matvec` eight to a slot, as on software adapters, whose lanes share them, as on cards: those with large matrices of
/// integers have this.
pub const EIGHT_SHARED: [(&str, u32); 3] =
    [("matvec_lanes", 128), ("matvec_eight_from", 1), ("matvec_eight_integers_from", 1)];

/// A device of its own, tuned so.
///
/// # Panics
/// As [`gpu`].
#[must_use]
pub fn tuned(values: &[(&'static str, u32)]) -> Device {
    tune(open(GpuRequest::default()), values)
}

/// The same with subgroups in use.
///
/// # Panics
/// As [`gpu`].
#[must_use]
pub fn tuned_with_subgroups(values: &[(&'static str, u32)]) -> Device {
    tune(open(GpuRequest { subgroups: true, ..GpuRequest::default() }), values)
}

fn tune(device: Device, values: &[(&'static str, u32)]) -> Device {
    let software = device.adapter().map(|a| a.software);
    let entry = TuningEntry {
        // The most particular entry has the last word.
        device: DeviceKey { software, ..device.adapter().expect("a GPU").key() },
        note: None,
        values: values.iter().copied().collect(),
    };
    assert!(device.tune(&TuningTable { entries: vec![entry] }), "an entry for this very device");
    device
}

fn open(request: GpuRequest) -> Device {
    pollster::block_on(Device::gpu(&request)).expect("a GPU test needs an adapter, lavapipe will do")
}

/// CPU, GPU and GPU at base tier, with the tolerance of the specification for f32 weights against golden files.
#[must_use]
pub fn all() -> [(&'static str, Device, f64); 3] {
    [("cpu", Device::cpu(), 5e-4), ("gpu", gpu(), 2e-3), ("gpu base tier", base_tier(), 2e-3)]
}
