//! Compute pipelines, made once per (kernel, weight format, overrides).

use std::sync::{Arc, PoisonError};

use taipan_kernels::{Access, Decl, Launch, WeightFormat};
use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderStages};

use crate::Gpu;

/// What makes a pipeline different from another. Override values are compared by their bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PipelineKey {
    name: &'static str,
    format: Option<WeightFormat>,
    overrides: Vec<(&'static str, u64)>,
}

/// A compiled kernel with the layouts of its two bind groups: weights and parameters, session state and scratch.
#[derive(Debug)]
pub struct Pipeline {
    /// The pipeline.
    pub(crate) compute: wgpu::ComputePipeline,
    /// Layouts of group 0 and group 1.
    pub(crate) groups: [wgpu::BindGroupLayout; 2],
}

impl Gpu {
    /// The pipeline of a launch, compiled if it is the first of its kind. A shader the driver refuses shows in
    /// [`Gpu::check`].
    #[must_use]
    pub fn pipeline(&self, decl: &'static Decl, launch: &Launch, format: Option<WeightFormat>) -> Arc<Pipeline> {
        let overrides = launch.overrides.iter().map(|(n, v)| (*n, v.to_bits())).collect();
        let key = PipelineKey { name: decl.name, format, overrides };
        let mut cache = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cache.entry(key).or_insert_with(|| Arc::new(self.compile(decl, launch, format))))
    }

    fn compile(&self, decl: &'static Decl, launch: &Launch, format: Option<WeightFormat>) -> Pipeline {
        let subgroups = if decl.waits() { self.lanes } else { self.subgroups };
        let module = self.module(decl.name, decl.source_with(format, subgroups));
        let groups = [0, 1].map(|group| self.layout(decl, group));
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(decl.name),
            bind_group_layouts: &[Some(&groups[0]), Some(&groups[1])],
            immediate_size: 0,
        });
        let compute = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(decl.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &launch.overrides,
                // No kernel reads workgroup memory that it has not written.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Pipeline { compute, groups }
    }

    /// Compiles a shader, with every check of wgpu's but one: it would count the rounds of each loop, so that none is
    /// endless, and on an NVIDIA H200 a decoded token takes a quarter longer for it.
    #[expect(unsafe_code, reason = "there is no safe way to leave the check out")]
    fn module(&self, name: &str, source: String) -> wgpu::ShaderModule {
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = false;
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        // SAFETY: the only sources are our own kernels. Each of their loops counts up or down, by constants or the size of
        // a workgroup, to a bound that does not change meanwhile; none is left by a condition on data alone, and who waits
        // for other workgroups counts the rounds. Accesses are checked as ever.
        unsafe { self.device.create_shader_module_trusted(descriptor, checks) }
    }

    fn layout(&self, decl: &Decl, group: u32) -> wgpu::BindGroupLayout {
        let entry = |binding, ty| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let params = (group == 0).then(|| entry(0, BufferBindingType::Uniform));
        let storage = decl.numbered().filter(|(g, ..)| *g == group).map(|(_, binding, _, access)| {
            entry(binding, BufferBindingType::Storage { read_only: access != Access::Write })
        });
        let entries: Vec<_> = params.into_iter().chain(storage).collect();
        self.device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(decl.name), entries: &entries })
    }
}
