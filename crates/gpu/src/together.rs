//! Kernels whose workgroups wait for each other. Neither WebGPU nor Vulkan promises that the workgroups of a dispatch run at
//! the same time; where there are no more than the device holds at once they do on cards that were tried. So such kernels
//! are used on those only, a trial comes before the first use, and nobody waits for ever.

use std::sync::atomic::Ordering;

use wgpu::Features;

use crate::{AdapterReport, Gpu};

/// What a kernel asks for whose workgroups wait for each other.
pub(crate) const WAITING: Features =
    Features::SUBGROUP.union(Features::MEMORY_DECORATION_COHERENT).union(Features::MEMORY_DECORATION_VOLATILE);

/// Workgroups that may wait for each other on an adapter: none where such kernels were not measured and found faster, which
/// they were on NVIDIA's cards through Vulkan. One for each processor of the largest of those; more, and they wait longer.
pub(crate) fn usual(report: &AdapterReport) -> u32 {
    let measured = (report.vendor, report.kind.as_str(), report.backend.as_str()) == (0x10de, "discrete", "vulkan");
    if measured { 132 } else { 0 }
}

/// Blocks of a dispatch, if nobody says how many: as many as it can go through, which was found faster in every format.
pub(crate) const ALL: u32 = u32::MAX;

impl Gpu {
    /// The fewest lanes of a subgroup, where there are any as they are expected, whether or not all kernels use them.
    #[must_use]
    pub fn lanes(&self) -> Option<u32> {
        self.lanes.map(|lanes| lanes.fewest)
    }

    /// The most invocations that a workgroup can have in a row.
    #[must_use]
    pub fn max_workgroup(&self) -> u32 {
        self.limits.max_compute_invocations_per_workgroup.min(self.limits.max_compute_workgroup_size_x)
    }

    /// Bytes of workgroup memory that a workgroup can have.
    #[must_use]
    pub fn max_workgroup_memory(&self) -> u32 {
        self.limits.max_compute_workgroup_storage_size
    }

    /// Workgroups that may wait for each other, at most, as far as a trial shows that they run at the same time; 0: a kernel
    /// never does.
    #[must_use]
    pub fn together(&self) -> u32 {
        if self.can_wait() { self.together } else { 0 }
    }

    /// Blocks that a token goes through in one dispatch whose workgroups wait for each other, at most.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// From now on models are loaded to go through so many blocks in one dispatch. With 0 no workgroup waits for another.
    pub fn run_blocks(&self, blocks: u32) {
        self.blocks.store(blocks, Ordering::Relaxed);
    }

    /// Whether it was opened with what such kernels need.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        !cfg!(target_arch = "wasm32") && self.lanes.is_some() && self.features.contains(WAITING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::card;

    #[test]
    fn only_what_was_measured_waits() {
        let nvidia = AdapterReport { vendor: 0x10de, ..card() };
        let others = [
            card(),
            AdapterReport { kind: "integrated".to_owned(), ..nvidia.clone() },
            AdapterReport { backend: "dx12".to_owned(), ..nvidia.clone() },
        ];
        assert!(usual(&nvidia) > 0 && others.iter().all(|report| usual(report) == 0));
    }
}
