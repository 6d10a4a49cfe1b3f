//! From a launch and its memory to something that an encoder can repeat without allocating.

use std::sync::Arc;

use taipan_kernels::{Decl, Grid, Launch, WeightFormat};
use wgpu::{BindGroup, BindGroupEntry, ComputePass};

use crate::{Buffer, Gpu, Pipeline, counts::Counters};

/// The part of a dispatch that belongs to the model: pipeline, weights, parameters, grid.
#[derive(Debug)]
pub struct Prepared {
    /// The kernel.
    pub decl: &'static Decl,
    /// Workgroups.
    pub grid: Grid,
    pipeline: Arc<Pipeline>,
    /// Another for segments from so many tokens on.
    many: Option<(u32, Arc<Pipeline>)>,
    group0: BindGroup,
    /// Kept so that its memory is counted as long as the bind group holds it.
    _params: Buffer,
    counters: Arc<Counters>,
}

/// The part that belongs to a session: state and scratch buffers.
#[derive(Debug)]
pub struct Bound {
    group1: BindGroup,
    indirect: Option<(wgpu::Buffer, u64)>,
}

impl Gpu {
    /// Makes the model's part. `matrix` is the piece of the weight matrix with its format; `vectors` are in the order of
    /// the launch. `many` is a shader with the same bindings for segments from so many tokens on.
    #[must_use]
    pub fn prepare(
        &self,
        decl: &'static Decl,
        many: Option<(u32, &'static Decl)>,
        launch: &Launch,
        matrix: Option<(&Buffer, WeightFormat)>,
        vectors: &[Option<&Buffer>],
    ) -> Prepared {
        let format = matrix.map(|(_, format)| format);
        let pipeline = self.pipeline(decl, launch, format);
        let many = many.map(|(from, decl)| (from, self.pipeline(decl, launch, format)));
        let words: Vec<u32> = launch.params.iter().map(|(_, w)| w.bits()).collect();
        let params = self.uniform(decl.name, &words);
        let mut buffers = vec![&params];
        buffers.extend(matrix.map(|(buffer, _)| buffer));
        buffers.extend(vectors.iter().map(|v| v.unwrap_or(&self.dummy)));
        let group0 = self.bind(decl.name, &pipeline.groups[0], &buffers);
        let counters = Arc::clone(&self.counters);
        Prepared { decl, grid: launch.grid, pipeline, many, group0, _params: params, counters }
    }

    /// Makes the session's part; `buffers` are in the order of the launch, `args` is the buffer of an indirect grid.
    #[must_use]
    pub fn bind_session(&self, prepared: &Prepared, buffers: &[Option<&Buffer>], args: Option<&Buffer>) -> Bound {
        let buffers: Vec<_> = buffers.iter().map(|b| b.unwrap_or(&self.dummy)).collect();
        let group1 = self.bind(prepared.decl.name, &prepared.pipeline.groups[1], &buffers);
        let indirect = match prepared.grid {
            Grid::Indirect { row, .. } => args.map(|b| (b.raw.clone(), b.offset + 16 * u64::from(row))),
            _ => None,
        };
        Bound { group1, indirect }
    }

    fn bind(&self, label: &str, layout: &wgpu::BindGroupLayout, buffers: &[&Buffer]) -> BindGroup {
        let entries: Vec<_> =
            (0..).zip(buffers).map(|(binding, b)| BindGroupEntry { binding, resource: b.binding() }).collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
    }
}

impl Prepared {
    /// Encodes one dispatch for a segment of `tokens` tokens; returns whether there was anything to do.
    pub fn encode(&self, bound: &Bound, pass: &mut ComputePass<'_>, tokens: u32) -> bool {
        let groups = self.grid.groups(tokens);
        if groups.is_some_and(|g| g.contains(&0)) {
            return false;
        }
        self.counters.dispatched();
        let pipeline = self.many.as_ref().filter(|(from, _)| tokens >= *from).map_or(&self.pipeline, |(_, many)| many);
        pass.set_pipeline(&pipeline.compute);
        pass.set_bind_group(0, &self.group0, &[]);
        pass.set_bind_group(1, &bound.group1, &[]);
        match (groups, &bound.indirect) {
            (Some([x, y, z]), _) => pass.dispatch_workgroups(x, y, z),
            (None, Some((buffer, offset))) => pass.dispatch_workgroups_indirect(buffer, *offset),
            (None, None) => unreachable!("an indirect grid is bound with its arguments"),
        }
        true
    }
}
