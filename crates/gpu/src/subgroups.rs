//! Whether the lanes of a subgroup are where kernels take them to be. No specification says that they are consecutive
//! invocations of a workgroup; every driver that we know of makes them so, and one that does not is noticed here.

use taipan_kernels::Subgroups;
use taipan_shaders::{Shared, assemble};

use crate::{Gpu, Readback};

/// Invocations of the workgroup: the most that a kernel with a use for subgroups has.
const WIDTH: usize = 128;

const PROBE: &str = "
@group(0) @binding(0) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(128)
fn main(@builtin(local_invocation_index) lane: u32) {
  sums[lane] = subgroup_sum(vec4(f32(lane)), 4u).x;
  sums[128u + lane] = subgroup_sum(vec4(f32(lane)), min(SUBGROUP, 128u)).x;
}
";

impl Gpu {
    /// Lets kernels use subgroups where the device has them and they are as expected: all kernels, or only those that
    /// cannot do without.
    pub(crate) async fn find_subgroups(&mut self, all: bool) {
        let fewest = self.report().limits.subgroup_size[0];
        if !self.has_subgroups() || fewest < 4 || !fewest.is_power_of_two() {
            return;
        }
        // What goes wrong here is no harm: there is the other way. A lost device is noticed again.
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
        let scopes = scopes.map(|filter| self.device.push_error_scope(filter));
        let found = Subgroups { fewest, enable: cfg!(target_arch = "wasm32") };
        let readback = self.probe(found);
        let [internal, validation] = scopes;
        let errors = [validation.pop(), internal.pop()];
        let sums = self.read(&readback, 2 * WIDTH).await;
        let mut fine = sums.is_ok_and(|sums| right(&sums, fewest as usize));
        for error in errors {
            fine &= error.await.is_none();
        }
        self.lanes = fine.then_some(found);
        self.subgroups = self.lanes.filter(|_| all);
    }

    /// Submits the probe.
    fn probe(&self, subgroups: Subgroups) -> Readback {
        let source = assemble(None, &[Shared::Lanes], PROBE, Some(subgroups));
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("subgroups"),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("subgroups"),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let bytes = 4 * 2 * WIDTH as u64;
        let (sums, readback) = (self.buffer("sums", bytes), self.readback(bytes));
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("subgroups"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: sums.raw.as_entire_binding() }],
        });
        let mut encoder = self.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        self.copy_to_readback(&mut encoder, &sums, &readback, bytes);
        self.submit(encoder);
        readback
    }
}

/// Whether the first lane of each four, and of each subgroup, has the sum of the numbers of its lanes.
fn right(sums: &[u32], fewest: usize) -> bool {
    let (fours, all) = sums.split_at(WIDTH);
    [(fours, 4), (all, fewest.min(WIDTH))].into_iter().all(|(sums, lanes)| {
        let expected = |first: usize| ((first..first + lanes).sum::<usize>() as f32).to_bits();
        (0..WIDTH).step_by(lanes).all(|first| sums[first] == expected(first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_in_another_order_are_noticed() {
        let sum = |first: usize, lanes: usize| ((first..first + lanes).sum::<usize>() as f32).to_bits();
        let mut sums: Vec<u32> = [4, 8].iter().flat_map(|n| (0..WIDTH).map(|lane| sum(lane, *n))).collect();
        assert!(right(&sums, 8));
        assert!(!right(&sums, 16));
        sums[WIDTH + 8] += 1;
        assert!(!right(&sums, 8) && !right(&[0; 2 * WIDTH], 4));
    }
}
