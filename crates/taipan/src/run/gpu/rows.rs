//! What consecutive layers have of their own, in rows of memory, so that one dispatch can bind and go through several of them.

use taipan_gpu::{Buffer, Gpu};
use taipan_kernels::{BufferId, Call, Matrix, MixerStep, TokenStep, WeightFormat};

use super::Weights;

/// Layers at the head of a list of calls that a dispatch may go through: blocks, or groups of blocks and a layer of selective
/// attention each, of which `blocks` are all blocks.
pub(super) struct Run {
    pub(super) blocks: Vec<MixerStep>,
    pub(super) groups: Vec<TokenStep>,
    /// Calls that it stands for.
    pub(super) calls: usize,
}

impl Run {
    /// As long as a binding can hold what they have; groups, where there is one.
    pub(super) fn of(gpu: &Gpu, calls: &[Call]) -> Option<Self> {
        // Two bytes a number is the most that these shaders read.
        let bytes = |m: &[Matrix]| m.iter().map(|m| 2 * u64::from(m.rows) * u64::from(m.cols)).sum::<u64>();
        let Some(first) = TokenStep::of(calls) else {
            let in_proj = MixerStep::of(calls)?.matrices()[0];
            let fits = (gpu.max_binding() / bytes(&[in_proj])).clamp(1, MixerStep::MOST_BLOCKS as u64);
            return Some(Self::blocks(calls, fits as usize));
        };
        let of_blocks = first.period() as u64 * bytes(&[first.block().matrices()[0]]);
        let largest = of_blocks.max(bytes(&first.matrices()) + LAYER_PADDING).max(first.window_bytes());
        let fits = (gpu.max_binding() / largest).max(1) as usize;
        let groups: Vec<_> = TokenStep::groups(calls).take(fits).collect();
        let heads = calls.chunks(first.calls()).take(groups.len());
        let blocks = heads.flat_map(|calls| MixerStep::row(calls).take(first.period())).collect();
        Some(Self { blocks, calls: first.calls() * groups.len(), groups })
    }

    /// Blocks alone, at most so many.
    pub(super) fn blocks(calls: &[Call], most: usize) -> Self {
        let blocks: Vec<_> = MixerStep::row(calls).take(most).collect();
        Self { calls: MixerStep::CALLS * blocks.len(), blocks, groups: vec![] }
    }

    /// All of a list of calls.
    fn all(gpu: &Gpu, calls: &[Call]) -> Vec<Self> {
        let (mut runs, mut rest) = (vec![], calls);
        while !rest.is_empty() {
            let run = Self::of(gpu, rest);
            rest = &rest[run.as_ref().map_or(1, |run| run.calls)..];
            runs.extend(run);
        }
        runs
    }
}

/// What five matrices of a layer may take more than their numbers, to begin where buffers may.
const LAYER_PADDING: u64 = 5 * 256;

/// A matrix that is stored as one, in this format.
pub(super) fn piece(weights: &Weights, matrix: Matrix, format: WeightFormat) -> Option<&Buffer> {
    let stored = &weights.matrices[matrix.id as usize];
    let [(_, buffer)] = &stored.pieces[..] else { return None };
    (stored.format == format).then_some(buffer)
}

/// Lists of equal buffers of a session, and of the model, that dispatches of a program bind as one.
#[must_use]
pub fn buffer_rows(gpu: &Gpu, calls: &[Call]) -> [Vec<Vec<u32>>; 2] {
    if cfg!(target_arch = "wasm32") || !gpu.can_wait() {
        return [vec![], vec![]]; // there none does
    }
    let rows = Run::all(gpu, calls).into_iter().flat_map(|run| {
        let blocks = [0, 1].map(|kind| run.blocks.iter().map(|step| step.states()[kind]).collect());
        let layers = [0, 1, 2].map(|kind| run.groups.iter().map(|step| step.states()[kind]).collect());
        blocks.into_iter().chain(layers)
    });
    let rows: Vec<Vec<BufferId>> = rows.filter(|row: &Vec<_>| row.len() > 1).collect();
    let of =
        |kind: fn(&BufferId) -> Option<u32>| rows.iter().filter_map(|row| row.iter().map(kind).collect()).collect();
    [of(BufferId::of_state), of(BufferId::of_scratch)]
}

/// Moves weights of consecutive layers to rows of memory. Each move takes the memory of so many matrices once more for a moment.
pub fn in_rows(gpu: &Gpu, calls: &[Call], weights: &mut Weights) {
    if cfg!(target_arch = "wasm32") || gpu.together() == 0 || gpu.blocks() == 0 {
        return;
    }
    for run in Run::all(gpu, calls) {
        let of_layers = run.groups.iter().flat_map(TokenStep::matrices);
        let mut matrices = run.blocks.iter().flat_map(MixerStep::matrices).chain(of_layers);
        let format = weights.matrices[run.blocks[0].matrices()[0].id as usize].format;
        if !MixerStep::reads(format) || !matrices.all(|m| piece(weights, m, format).is_some()) {
            continue;
        }
        for kind in 0..2 {
            let list: Vec<_> = run.blocks.iter().map(|step| step.matrices()[kind]).collect();
            move_matrices(gpu, weights, &list);
        }
        move_matrices(gpu, weights, &run.groups.iter().flat_map(TokenStep::matrices).collect::<Vec<_>>());
        for kind in 0..4 {
            let list = run.blocks.iter().map(|step| step.vectors()[kind].id as usize).collect::<Vec<_>>();
            move_vectors(gpu, weights, &list);
        }
        for kind in 0..2 {
            let list = run.groups.iter().filter_map(|step| step.vectors()[kind]);
            move_vectors(gpu, weights, &list.map(|v| v.id as usize).collect::<Vec<_>>());
        }
    }
}

fn move_matrices(gpu: &Gpu, weights: &mut Weights, list: &[Matrix]) {
    let ids = list.iter().map(|m| m.id as usize);
    let old: Vec<_> = ids.clone().map(|id| weights.matrices[id].pieces[0].1.clone()).collect();
    ids.zip(moved(gpu, &old)).for_each(|(id, new)| weights.matrices[id].pieces[0].1 = new);
}

fn move_vectors(gpu: &Gpu, weights: &mut Weights, ids: &[usize]) {
    let old: Vec<_> = ids.iter().map(|id| weights.vectors[*id].clone()).collect();
    ids.iter().zip(moved(gpu, &old)).for_each(|(id, new)| weights.vectors[*id] = new);
}

/// Buffers in a row that hold what others do; one alone stays where it is.
fn moved(gpu: &Gpu, old: &[Buffer]) -> Vec<Buffer> {
    if old.len() < 2 {
        return old.to_vec();
    }
    let new = gpu.row_of("weights of layers", &old.iter().map(Buffer::bytes).collect::<Vec<_>>());
    let mut encoder = gpu.encoder();
    old.iter().zip(&new).for_each(|(from, to)| gpu.copy(&mut encoder, from, to));
    gpu.submit(encoder);
    new
}
