//! Blocks of a program that one dispatch can run, whose workgroups wait for each other: found among the calls, and used only
//! where a trial shows that the workgroups run at the same time.

use taipan_gpu::{Buffer, ComputePassDescriptor, Gpu, Readback};
use taipan_kernels::{Call, Decl, MixerStep, WeightFormat};

use super::{Dispatch, Weights};

/// What makes the pipeline of a block another, but for their number.
type Switches = (Vec<(&'static str, f64)>, WeightFormat);

/// The blocks of one program.
pub(super) struct Together<'a> {
    gpu: &'a Gpu,
    weights: &'a Weights,
    decl: &'static Decl,
    /// Where their workgroups give each other numbers, by how wide they are and how many: places depend on both.
    syncs: Vec<((u32, u32), Buffer)>,
    /// Workgroups of each pipeline, by its switches and blocks, as trials found them.
    found: Vec<(Switches, u32, Option<u32>)>,
}

impl<'a> Together<'a> {
    pub(super) fn new(gpu: &'a Gpu, weights: &'a Weights, decl: &'static Decl) -> Self {
        Self { gpu, weights, decl, syncs: vec![], found: vec![] }
    }

    /// The dispatch that stands for the first calls of a list, and how many they are.
    pub(super) fn dispatch(&mut self, calls: &[Call]) -> Option<(Dispatch, usize)> {
        if cfg!(target_arch = "wasm32") {
            return None; // nobody can wait for a trial there, and the shader need not be downloaded
        }
        let step = MixerStep::of(calls).filter(|_| self.gpu.together() > 0)?;
        let ([in_proj, out_proj], format) = matrices(self.weights, &step)?;
        let row = self.row(calls);
        let (last, blocks) = (row.last()?, row.len() as u32);
        let key = (step.launch(1, 1).overrides, format);
        // Where one number of blocks is tried in vain, so would the others be.
        let known = self.found.iter().find(|found| found.0 == key && (found.1 == blocks || found.2.is_none()));
        let workgroups = match known {
            Some((.., workgroups)) => *workgroups,
            None => {
                let workgroups = self.find(&step, blocks, [in_proj, out_proj], format);
                self.found.push((key, blocks, workgroups));
                workgroups
            }
        }?;
        let sync = self.sync(&step, workgroups);
        let launch = step.launch(workgroups, blocks);
        let [first, until] = [&step, last].map(|step| buffers(self.weights, step));
        let bound: Vec<Buffer> = first?.iter().zip(until?).map(|(first, last)| first.up_to(last)).collect();
        let vectors: Vec<_> = bound[1..].iter().map(Some).collect();
        let prepared = self.gpu.prepare(self.decl, None, &launch, Some((&bound[0], format)), &vectors);
        let until = last.launch(workgroups, 1).buffers;
        let buffers = launch.buffers.iter().zip(until).map(|(first, last)| Some([(*first)?, last?])).collect();
        Some((Dispatch { prepared, buffers, sync: Some(sync) }, MixerStep::CALLS * row.len()))
    }

    fn sync(&mut self, step: &MixerStep, workgroups: u32) -> Buffer {
        let key = (step.width(), workgroups);
        if let Some((_, sync)) = self.syncs.iter().find(|sync| sync.0 == key) {
            return sync.clone();
        }
        let made = sync(self.gpu, step, workgroups);
        self.syncs.push((key, made.clone()));
        made
    }

    /// The blocks that a list of calls begins with, as far as their weights lie in rows.
    fn row(&self, calls: &[Call]) -> Vec<MixerStep> {
        let mut before: Option<[&Buffer; 6]> = None;
        let in_row = |step: &MixerStep| {
            let own = buffers(self.weights, step);
            let follows = match (before, own) {
                (Some(before), Some(own)) => own.iter().zip(before).all(|(own, before)| own.follows(before)),
                (before, own) => before.is_none() && own.is_some(),
            };
            before = own;
            follows
        };
        MixerStep::row(calls).take(self.gpu.blocks() as usize).take_while(in_row).collect()
    }

    /// As many workgroups as run at the same time, of a few numbers tried.
    fn find(&self, step: &MixerStep, blocks: u32, weights: [&Buffer; 2], format: WeightFormat) -> Option<u32> {
        let lanes = self.gpu.lanes()?;
        if step.threads() > self.gpu.max_workgroup() || !step.width().is_multiple_of(lanes) {
            return None;
        }
        let enough = step.most_workgroups().min(step.matrices()[0].rows / MIN_ROWS);
        let most = std::iter::successors(Some(self.gpu.together()), |n| Some(n / 2)).find(|n| *n <= enough)?;
        let fits = |n: &u32| *n > 0 && step.memory(*n, lanes) <= self.gpu.max_workgroup_memory();
        let mut tried = (4..=8).rev().map(|eighths| most * eighths / 8).filter(fits);
        tried.find(|n| self.run_together(step, *n, blocks, weights, format))
    }

    /// Whether a dispatch that only waits comes to an end as it should.
    fn run_together(
        &self,
        step: &MixerStep,
        workgroups: u32,
        blocks: u32,
        weights: [&Buffer; 2],
        format: WeightFormat,
    ) -> bool {
        let (gpu, launch, [in_proj, out_proj]) = (self.gpu, step.trial(workgroups, blocks), weights);
        let vectors: Vec<_> = std::iter::once(Some(out_proj)).chain(launch.vectors.iter().map(|_| None)).collect();
        let prepared = gpu.prepare(self.decl, None, &launch, Some((in_proj, format)), &vectors);
        let (sync, other) = (sync(gpu, step, workgroups), gpu.buffer("unused", 64));
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

/// in_proj and out_proj of a block, if a dispatch can bind and read them.
fn matrices<'a>(weights: &'a Weights, step: &MixerStep) -> Option<([&'a Buffer; 2], WeightFormat)> {
    let [a, b] = step.matrices().map(|m| &weights.matrices[m.id as usize]);
    let ([(_, in_proj)], [(_, out_proj)]) = (&a.pieces[..], &b.pieces[..]) else { return None };
    (a.format == b.format && MixerStep::reads(a.format)).then_some(([in_proj, out_proj], a.format))
}

/// All weights of a block, as they are bound.
fn buffers<'a>(weights: &'a Weights, step: &MixerStep) -> Option<[&'a Buffer; 6]> {
    let ([in_proj, out_proj], _) = matrices(weights, step)?;
    let [a, b, c, d] = step.vectors().map(|v| &weights.vectors[v.id as usize]);
    Some([in_proj, out_proj, a, b, c, d])
}

/// Moves weights of consecutive blocks to rows of equal buffers, so that one dispatch can go through several blocks. Each move
/// takes the memory of so many matrices once more for a moment.
pub fn in_rows(gpu: &Gpu, calls: &[Call], weights: &mut Weights) {
    if cfg!(target_arch = "wasm32") || gpu.together() == 0 {
        return;
    }
    let mut rest = calls;
    while !rest.is_empty() {
        let blocks: Vec<_> = MixerStep::row(rest).collect();
        rest = &rest[(MixerStep::CALLS * blocks.len()).max(1)..];
        let Some(([in_proj, _], _)) = blocks.first().and_then(|step| matrices(weights, step)) else { continue };
        if gpu.blocks() < 2 {
            continue;
        }
        let fits = |n: &usize| in_proj.bytes() * *n as u64 <= gpu.max_binding();
        let most = std::iter::successors(Some(MixerStep::MOST_BLOCKS), |n| Some(n / 2)).find(fits).unwrap_or(1);
        blocks.chunks(most).filter(|blocks| blocks.len() > 1).for_each(|blocks| move_blocks(gpu, weights, blocks));
    }
}

fn move_blocks(gpu: &Gpu, weights: &mut Weights, blocks: &[MixerStep]) {
    let format = |step| matrices(weights, step).map(|(_, format)| format);
    if !blocks.iter().all(|step| format(step).is_some() && format(step) == format(&blocks[0])) {
        return;
    }
    for kind in 0..2 {
        let ids = blocks.iter().map(|step| step.matrices()[kind].id as usize);
        let old: Vec<_> = ids.clone().map(|id| weights.matrices[id].pieces[0].1.clone()).collect();
        ids.zip(moved(gpu, &old)).for_each(|(id, new)| weights.matrices[id].pieces[0].1 = new);
    }
    for kind in 0..4 {
        let ids = blocks.iter().map(|step| step.vectors()[kind].id as usize);
        let old: Vec<_> = ids.clone().map(|id| weights.vectors[id].clone()).collect();
        ids.zip(moved(gpu, &old)).for_each(|(id, new)| weights.vectors[id] = new);
    }
}

/// A row of equal buffers that holds what others do.
fn moved(gpu: &Gpu, old: &[Buffer]) -> Vec<Buffer> {
    let new = gpu.row("weights of blocks", old[0].bytes(), old.len());
    let mut encoder = gpu.encoder();
    old.iter().zip(&new).for_each(|(from, to)| gpu.copy(&mut encoder, from, to));
    gpu.submit(encoder);
    new
}

/// Rows of in_proj to a workgroup; with fewer, waiting for more workgroups costs more than they bring. On an H200 a block of
/// 256 columns takes 8.2 µs with 66 workgroups and 9.1 with 132, one of 1024 columns 11.3 µs with 132 and 12.4 with 264.
const MIN_ROWS: u32 = 24;

/// The words of `sync` that say whether somebody gave up.
const COUNTED: usize = MixerStep::GAVE_UP + 1;
const COUNTED_BYTES: u64 = 4 * COUNTED as u64;

fn sync(gpu: &Gpu, step: &MixerStep, workgroups: u32) -> Buffer {
    gpu.buffer("sync", 4 * step.sync(workgroups) as u64)
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
