//! Blocks of a program that one dispatch can run, whose workgroups wait for each other: found among the calls, and used only
//! where a trial shows that the workgroups run at the same time.

use taipan_gpu::{Buffer, ComputePassDescriptor, Gpu, Readback};
use taipan_kernels::{Call, Launch, MixerStep, WeightFormat};

use super::{Dispatch, Weights};

/// What makes the pipeline of a block another.
type Switches = (Vec<(&'static str, f64)>, WeightFormat);

/// The blocks of one program.
pub(super) struct Together<'a> {
    gpu: &'a Gpu,
    weights: &'a Weights,
    /// What their workgroups count in.
    sync: Option<Buffer>,
    /// Workgroups of each pipeline, by its switches and format, as trials found them.
    found: Vec<(Switches, Option<u32>)>,
}

impl<'a> Together<'a> {
    pub(super) fn new(gpu: &'a Gpu, weights: &'a Weights) -> Self {
        Self { gpu, weights, sync: None, found: vec![] }
    }

    /// The dispatch that stands for the first calls of a list, and how many they are.
    pub(super) fn dispatch(&mut self, calls: &[Call]) -> Option<(Dispatch, usize)> {
        if cfg!(target_arch = "wasm32") {
            return None; // nobody can wait for a trial there, and the shader need not be downloaded
        }
        let step = MixerStep::of(calls).filter(|_| self.gpu.together() > 0)?;
        let [a, b] = step.matrices().map(|m| &self.weights.matrices[m.id as usize]);
        let ([(_, in_proj)], [(_, out_proj)]) = (&a.pieces[..], &b.pieces[..]) else { return None };
        if a.format != b.format || !MixerStep::reads(a.format) {
            return None;
        }
        let key = (step.launch(1).overrides, a.format);
        let workgroups = match self.found.iter().find(|(k, _)| *k == key) {
            Some((_, workgroups)) => *workgroups,
            None => {
                let workgroups = self.find(&step, [in_proj, out_proj], a.format);
                self.found.push((key, workgroups));
                workgroups
            }
        }?;
        let sync = self.sync.get_or_insert_with(|| sync(self.gpu));
        let launch = step.launch(workgroups);
        let vectors = launch.vectors.iter().map(|v| v.map(|v| &self.weights.vectors[v.id as usize]));
        let vectors: Vec<_> = std::iter::once(Some(out_proj)).chain(vectors).collect();
        let prepared = self.gpu.prepare(step.decl(), None, &launch, Some((in_proj, a.format)), &vectors);
        Some((Dispatch { prepared, buffers: launch.buffers, sync: Some(sync.clone()) }, MixerStep::CALLS))
    }

    /// As many workgroups as run at the same time, of a few numbers tried.
    fn find(&self, step: &MixerStep, weights: [&Buffer; 2], format: WeightFormat) -> Option<u32> {
        let lanes = self.gpu.lanes()?;
        if step.threads() > self.gpu.max_workgroup() || !step.width().is_multiple_of(lanes) {
            return None;
        }
        let enough = step.matrices()[0].rows / MIN_ROWS;
        let most = std::iter::successors(Some(self.gpu.together()), |n| Some(n / 2)).find(|n| *n <= enough)?;
        let fits = |n: &u32| *n > 0 && step.memory(*n, lanes) <= self.gpu.max_workgroup_memory();
        let mut tried = [most, most * 3 / 4, most / 2].into_iter().filter(fits);
        tried.find(|n| self.run_together(step, &step.trial(*n), weights, format))
    }

    /// Whether a dispatch that only waits comes to an end as it should.
    fn run_together(&self, step: &MixerStep, launch: &Launch, weights: [&Buffer; 2], format: WeightFormat) -> bool {
        let (gpu, [in_proj, out_proj]) = (self.gpu, weights);
        let vectors: Vec<_> = std::iter::once(Some(out_proj)).chain(launch.vectors.iter().map(|_| None)).collect();
        let prepared = gpu.prepare(step.decl(), None, launch, Some((in_proj, format)), &vectors);
        let (sync, other) = (sync(gpu), gpu.buffer("unused", 64));
        let mut buffers: Vec<_> = launch.buffers.iter().map(|_| Some(&other)).collect();
        buffers[0] = None; // it is read, and the others are written
        buffers.push(Some(&sync));
        let bound = gpu.bind_session(&prepared, &buffers, None);
        let readback = gpu.readback(COUNTED_BYTES);
        let mut encoder = gpu.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            prepared.encode(&bound, &mut pass, 1);
        }
        gpu.copy_to_readback(&mut encoder, &sync, &readback, COUNTED_BYTES);
        gpu.submit(encoder);
        words(gpu, &readback).is_some_and(|words| words[MixerStep::GAVE_UP] == 0)
    }
}

/// Rows of in_proj to a workgroup; with fewer, waiting for more workgroups costs more than they bring. On an H200 a block of
/// 256 columns takes 8.2 µs with 66 workgroups and 9.1 with 132, one of 1024 columns 11.3 µs with 132 and 12.4 with 264.
const MIN_ROWS: u32 = 24;

/// The words of `sync` that say whether somebody gave up.
const COUNTED: usize = MixerStep::GAVE_UP + 1;
const COUNTED_BYTES: u64 = 4 * COUNTED as u64;

fn sync(gpu: &Gpu) -> Buffer {
    gpu.buffer("sync", 4 * MixerStep::SYNC as u64)
}

/// What a trial left. A shader that the driver refuses is no harm: there is the other way.
#[cfg(not(target_arch = "wasm32"))]
fn words(gpu: &Gpu, readback: &Readback) -> Option<Vec<u32>> {
    pollster::block_on(gpu.read(readback, COUNTED)).ok()
}

/// In a browser nobody can wait for that.
#[cfg(target_arch = "wasm32")]
fn words(_: &Gpu, _: &Readback) -> Option<Vec<u32>> {
    None
}
