//! Layers of a program that one dispatch can run, whose workgroups wait for each other: found among the calls, and used only
//! where a trial shows that the workgroups run at the same time.

use taipan_gpu::{Buffer, ComputePassDescriptor, Gpu, Readback};
use taipan_kernels::{BufferId, Call, Decl, Launch, MixerStep, TokenStep, WeightFormat};

use super::rows::{Run, piece};
use super::{Dispatch, Weights};

/// Layers of one dispatch, of which these are the first: blocks, or groups.
#[derive(Clone, Copy)]
enum Step<'s> {
    Blocks(&'s MixerStep),
    Groups(&'s TokenStep),
}

impl<'s> Step<'s> {
    const fn block(&self) -> &'s MixerStep {
        match self {
            Self::Blocks(step) => step,
            Self::Groups(step) => step.block(),
        }
    }

    fn launch(&self, workgroups: u32, count: u32) -> Launch {
        match self {
            Self::Blocks(step) => step.launch(workgroups, count),
            Self::Groups(step) => step.launch(workgroups, count),
        }
    }

    fn trial(&self, workgroups: u32, count: u32) -> Launch {
        match self {
            Self::Blocks(step) => step.trial(workgroups, count),
            Self::Groups(step) => step.trial(workgroups, count),
        }
    }

    fn memory(&self, workgroups: u32, lanes: u32) -> u32 {
        match self {
            Self::Blocks(step) => step.memory(workgroups, lanes),
            Self::Groups(step) => step.memory(workgroups, lanes),
        }
    }

    fn most_workgroups(&self) -> u32 {
        match self {
            Self::Blocks(step) => step.most_workgroups(),
            Self::Groups(step) => step.most_workgroups(),
        }
    }

    fn sync(&self, workgroups: u32) -> usize {
        match self {
            Self::Blocks(step) => step.sync(workgroups),
            Self::Groups(step) => step.sync(workgroups),
        }
    }
}

/// What makes the pipeline of a step another, but for how many there are.
type Switches = (Vec<(&'static str, f64)>, WeightFormat);

/// The kernels that wait.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) blocks: &'static Decl,
    pub(super) groups: &'static Decl,
}

/// The layers of one program that wait for each other.
pub(super) struct Together<'a> {
    gpu: &'a Gpu,
    weights: &'a Weights,
    decls: Waiting,
    /// A group, which needs the most room to give numbers, if there is one.
    largest: Option<TokenStep>,
    /// Where workgroups give each other numbers, by how wide blocks are and how many workgroups: places depend on both.
    syncs: Vec<((u32, u32), Buffer)>,
    /// Workgroups of each pipeline, by its switches and blocks, as trials found them.
    found: Vec<(Switches, u32, Option<u32>)>,
}

/// What a dispatch binds of the layers' own, and how it is stored.
struct Bound {
    matrix: Buffer,
    vectors: Vec<Buffer>,
    format: WeightFormat,
}

impl<'a> Together<'a> {
    pub(super) fn new(gpu: &'a Gpu, weights: &'a Weights, decls: Waiting, calls: &[Call]) -> Self {
        let groups = |calls: &[Call]| (0..calls.len()).find_map(|at| TokenStep::of(&calls[at..]));
        let largest = if cfg!(target_arch = "wasm32") { None } else { groups(calls) };
        Self { gpu, weights, decls, largest, syncs: vec![], found: vec![] }
    }

    /// The dispatch that stands for the first calls of a list, and how many they are.
    pub(super) fn dispatch(&mut self, calls: &[Call]) -> Option<(Dispatch, usize)> {
        if cfg!(target_arch = "wasm32") || self.gpu.together() == 0 {
            return None; // in a browser nobody can wait for a trial, and the shader need not be downloaded
        }
        let mut run = Run::of(self.gpu, calls)?;
        let most = self.gpu.blocks() as usize;
        if let Some(first) = run.groups.first().copied() {
            run.groups.truncate(most / first.period());
            if let Some(found) = self.groups(&run, first) {
                return Some(found);
            }
        }
        self.blocks(&Run::blocks(calls, most))
    }

    fn groups(&mut self, run: &Run, first: TokenStep) -> Option<(Dispatch, usize)> {
        let (format, period) = (self.format(first.block())?, first.period());
        let groups = run.groups.iter().zip(run.blocks.chunks(period));
        let own = |(group, blocks): (&TokenStep, &[MixerStep])| {
            let mut lists: [Vec<&Buffer>; 9] = Default::default();
            for block in blocks {
                let buffers = buffers(self.weights, block, format)?;
                lists.iter_mut().zip(buffers).for_each(|(list, buffer)| list.push(buffer));
            }
            for matrix in group.matrices() {
                lists[6].push(piece(self.weights, matrix, format)?);
            }
            for (list, vector) in lists[7..].iter_mut().zip(group.vectors()) {
                list.push(&self.weights.vectors[vector?.id as usize]);
            }
            Some(lists)
        };
        let (lists, count) = lying(groups.map(own));
        let group = run.groups.get(count.checked_sub(1)?)?;
        let [control, x] = [0, 1].map(|i| first.block().launch(1, 1).buffers[i]);
        let until = [control, x].into_iter().chain(run.blocks[count * period - 1].states().map(Some));
        let until = until.chain(group.states().map(Some));
        let dispatch = self.prepare(Step::Groups(&first), count as u32, format, &lists, until)?;
        Some((dispatch, first.calls() * count))
    }

    fn blocks(&mut self, run: &Run) -> Option<(Dispatch, usize)> {
        let first = run.blocks.first()?;
        let format = self.format(first)?;
        let own = |block| buffers(self.weights, block, format).map(|buffers| buffers.map(|buffer| vec![buffer]));
        let (lists, count) = lying(run.blocks.iter().map(own));
        let until = run.blocks.get(count.checked_sub(1)?)?.launch(1, 1).buffers;
        let dispatch = self.prepare(Step::Blocks(first), count as u32, format, &lists, until.into_iter())?;
        Some((dispatch, MixerStep::CALLS * count))
    }

    /// A dispatch of so many steps on what lies in rows; `until` are the last of its buffers.
    fn prepare(
        &mut self,
        step: Step<'_>,
        count: u32,
        format: WeightFormat,
        rows: &[Vec<&Buffer>],
        until: impl Iterator<Item = Option<BufferId>>,
    ) -> Option<Dispatch> {
        let mut bound = rows.iter().filter_map(|row| Some(row.first()?.up_to(row.last()?)));
        let bound = Bound { matrix: bound.next()?, vectors: bound.collect(), format };
        let workgroups = self.workgroups(step, count, &bound)?;
        let (launch, sync) = (step.launch(workgroups, count), self.sync(step, workgroups));
        let vectors: Vec<_> = bound.vectors.iter().map(Some).collect();
        let prepared = self.gpu.prepare(self.decl(step), None, &launch, Some((&bound.matrix, format)), &vectors);
        let buffers = launch.buffers.iter().zip(until).map(|(first, last)| Some([(*first)?, last?])).collect();
        Some(Dispatch { prepared, buffers, sync: Some(sync) })
    }

    const fn decl(&self, step: Step<'_>) -> &'static Decl {
        match step {
            Step::Blocks(_) => self.decls.blocks,
            Step::Groups(_) => self.decls.groups,
        }
    }

    /// The format of a block's matrices, if the shaders read it.
    fn format(&self, block: &MixerStep) -> Option<WeightFormat> {
        let format = self.weights.matrices[block.matrices()[0].id as usize].format;
        MixerStep::reads(format).then_some(format)
    }

    fn sync(&mut self, step: Step<'_>, workgroups: u32) -> Buffer {
        let width = step.block().width();
        let known = self.syncs.iter().find(|sync| sync.0 == (width, workgroups));
        if let Some((_, sync)) = known {
            return sync.clone();
        }
        // Places of blocks come first, so that both kinds of steps can have the same.
        let largest = self.largest.as_ref().filter(|largest| largest.block().width() == width);
        let made = sync(self.gpu, largest.map_or(step, Step::Groups), workgroups);
        self.syncs.push(((width, workgroups), made.clone()));
        made
    }

    /// As many workgroups as run at the same time, as a trial says or an earlier one has said.
    fn workgroups(&mut self, step: Step<'_>, count: u32, bound: &Bound) -> Option<u32> {
        let key = (step.launch(1, 1).overrides, bound.format);
        // Where one number of blocks is tried in vain, so would the others be.
        let known = self.found.iter().find(|found| found.0 == key && (found.1 == count || found.2.is_none()));
        if let Some((.., workgroups)) = known {
            return *workgroups;
        }
        let workgroups = self.find(step, count, bound);
        self.found.push((key, count, workgroups));
        workgroups
    }

    /// As many workgroups as run at the same time, of a few numbers tried.
    fn find(&self, step: Step<'_>, count: u32, bound: &Bound) -> Option<u32> {
        let (lanes, block) = (self.gpu.lanes()?, step.block());
        if block.threads() > self.gpu.max_workgroup() || !block.width().is_multiple_of(lanes) {
            return None;
        }
        let enough = step.most_workgroups().min(block.matrices()[0].rows / MIN_ROWS);
        let most = std::iter::successors(Some(self.gpu.together()), |n| Some(n / 2)).find(|n| *n <= enough)?;
        let fits = |n: &u32| *n > 0 && step.memory(*n, lanes) <= self.gpu.max_workgroup_memory();
        let mut tried = (4..=8).rev().map(|eighths| most * eighths / 8).filter(fits);
        tried.find(|n| self.run_together(step, *n, count, bound))
    }

    /// Whether a dispatch that only waits comes to an end as it should.
    fn run_together(&self, step: Step<'_>, workgroups: u32, count: u32, bound: &Bound) -> bool {
        let (gpu, launch) = (self.gpu, step.trial(workgroups, count));
        let vectors: Vec<_> = bound.vectors.iter().map(Some).collect();
        let prepared = gpu.prepare(self.decl(step), None, &launch, Some((&bound.matrix, bound.format)), &vectors);
        let (sync, other) = (sync(gpu, step, workgroups), gpu.buffer("unused", 64));
        let mut buffers: Vec<_> = launch.buffers.iter().map(|_| Some(&other)).collect();
        buffers[0] = None; // it is read, and the others are written
        buffers.insert(0, Some(&sync));
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

/// All weights of a block, as they are bound.
fn buffers<'a>(weights: &'a Weights, step: &MixerStep, format: WeightFormat) -> Option<[&'a Buffer; 6]> {
    let [in_proj, out_proj] = step.matrices().map(|m| piece(weights, m, format));
    let [a, b, c, d] = step.vectors().map(|v| &weights.vectors[v.id as usize]);
    Some([in_proj?, out_proj?, a, b, c, d])
}

/// What steps have of their own, list by list, for as many of them as it lies in rows for; and how many those are.
fn lying<'a, const N: usize>(
    steps: impl Iterator<Item = Option<[Vec<&'a Buffer>; N]>>,
) -> (Vec<Vec<&'a Buffer>>, usize) {
    let (mut lists, mut count) = (vec![vec![]; N], 0);
    for own in steps.map_while(|own| own) {
        let longer: Vec<Vec<_>> = lists.iter().zip(own).map(|(list, own)| [&list[..], &own].concat()).collect();
        if !longer.iter().all(|list| list.windows(2).all(|pair| pair[1].follows(pair[0]))) {
            break;
        }
        (lists, count) = (longer, count + 1);
    }
    (lists, count)
}

/// Rows of in_proj to a workgroup; with fewer, waiting for more workgroups costs more than they bring. On an H200 a block of
/// 256 columns takes 8.2 µs with 66 workgroups and 9.1 with 132, one of 1024 columns 11.3 µs with 132 and 12.4 with 264.
const MIN_ROWS: u32 = 24;

/// The words of `sync` that say whether somebody gave up.
const COUNTED: usize = MixerStep::GAVE_UP + 1;
const COUNTED_BYTES: u64 = 4 * COUNTED as u64;

fn sync(gpu: &Gpu, step: Step<'_>, workgroups: u32) -> Buffer {
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
