//! The GPU device: each call of a program prepared once per model (pipeline, weights, parameters) and bound once per
//! session (state, scratch), so that running it encodes dispatches and nothing else.

mod matrix;
mod rows;
mod together;

use std::ops::Range;

use taipan_gpu::{Bound, Buffer, CommandEncoder, ComputePass, ComputePassDescriptor, Gpu, Prepared};
use taipan_kernels::{
    BufferId, Call, Decl, Grid, Kernel, Launch, MixerStep, NEVER, Piece, TokenStep, Tuning, WeightFormat, row_stride,
};

use super::cpu::VectorData;
use crate::description::Buffers;
pub use matrix::MatrixBuffers;
pub(crate) use matrix::{write_quantised, write_rows};
pub use rows::{buffer_rows, in_rows};
use together::{Together, Waiting};

/// Uploads a vector, padded so that reading it by eights stays inside.
#[must_use]
pub fn upload_vector(gpu: &Gpu, data: &VectorData) -> Buffer {
    let words: Vec<u32> = match data {
        VectorData::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
        VectorData::U32(v) => v.clone(),
    };
    let buffer = gpu.buffer("weight vector", 4 * row_stride(words.len()) as u64);
    gpu.write(&buffer, 0, &words);
    buffer
}

/// Weights of a model on the device.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// Matrices in the order of their recipes.
    pub matrices: Vec<MatrixBuffers>,
    /// Vectors in the order of their recipes.
    pub vectors: Vec<Buffer>,
}

impl Weights {
    /// Bytes on the device.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let matrices = self.matrices.iter().flat_map(|m| &m.pieces).map(|(_, b)| b.bytes()).sum::<u64>();
        matrices + self.vectors.iter().map(Buffer::bytes).sum::<u64>()
    }
}

/// Buffers of a session or of a model's scratch space.
#[derive(Debug)]
pub struct Memory(Vec<Buffer>);

impl Memory {
    /// Zeroed buffers.
    #[must_use]
    pub fn new(gpu: &Gpu, buffers: &Buffers) -> Self {
        let rows = if gpu.can_wait() { buffers.rows() } else { &[] };
        let mut made: Vec<Option<Buffer>> = vec![None; buffers.list().len()];
        for row in rows {
            let desc = &buffers.list()[row[0] as usize];
            for (i, buffer) in row.iter().zip(gpu.row(&desc.name, desc.gpu_bytes(), row.len())) {
                made[*i as usize] = Some(buffer);
            }
        }
        let made = made.into_iter().zip(buffers.list());
        Self(made.map(|(buffer, desc)| buffer.unwrap_or_else(|| gpu.buffer_for(desc))).collect())
    }

    /// Bytes on the device.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(Buffer::bytes).sum()
    }

    /// Buffers that exist already, in the order of their ids.
    #[must_use]
    pub fn from_buffers(buffers: Vec<Buffer>) -> Self {
        Self(buffers)
    }

    /// Puts another buffer in the place of one.
    pub(crate) fn replace(&mut self, index: u32, buffer: Buffer) {
        self.0[index as usize] = buffer;
    }

    /// The buffers in the order of their ids.
    #[must_use]
    pub fn list(&self) -> &[Buffer] {
        &self.0
    }

    /// Encodes a copy of every buffer into memory of the same description.
    pub fn copy_to(&self, target: &Self, gpu: &Gpu, encoder: &mut CommandEncoder) {
        self.copy_parts(target, gpu, encoder, &|_| None);
    }

    /// As [`Memory::copy_to`], but of a buffer for which `parts` names parts, by offset and bytes, only those.
    pub(crate) fn copy_parts(
        &self,
        target: &Self,
        gpu: &Gpu,
        encoder: &mut CommandEncoder,
        parts: &dyn Fn(u32) -> Option<Vec<Range<u64>>>,
    ) {
        // The first and the last of what goes together, here and there: a copy takes microseconds, whatever it moves.
        let mut runs: Vec<[[&Buffer; 2]; 2]> = vec![];
        for (i, pair) in (0..).zip(self.0.iter().zip(&target.0).map(|(from, to)| [from, to])) {
            if let Some(parts) = parts(i) {
                parts.into_iter().for_each(|part| gpu.copy_part(encoder, pair, part));
                continue;
            }
            if cfg!(target_arch = "wasm32") {
                gpu.copy(encoder, pair[0], pair[1]); // there are no rows there
                continue;
            }
            let goes_on = |run: &&mut [[&Buffer; 2]; 2]| (0..2).all(|side| pair[side].follows(run[side][1]));
            match runs.iter_mut().find(goes_on) {
                Some(run) => (0..2).for_each(|side| run[side][1] = pair[side]),
                None => runs.push(pair.map(|buffer| [buffer; 2])),
            }
        }
        for [from, to] in runs.iter().map(|run| run.map(|[first, last]| first.up_to(last))) {
            gpu.copy(encoder, &from, &to);
        }
    }
}

/// A buffer by its id.
#[must_use]
pub fn buffer<'a>(id: BufferId, state: &'a Memory, scratch: &'a Memory) -> &'a Buffer {
    match id {
        BufferId::State(i) => &state.0[i as usize],
        BufferId::Scratch(i) => &scratch.0[i as usize],
    }
}

/// Dispatches that are submitted before the rest of a program is encoded; then twice as many, and so on.
const FIRST_PART: usize = 16;

/// The parts in which [`Program::encode_ahead`] submits a program of so many dispatches. The last is as long as the one
/// before it at least.
pub fn parts(dispatches: usize) -> impl Iterator<Item = Range<usize>> {
    let (mut begin, mut most) = (0, FIRST_PART);
    std::iter::from_fn(move || {
        let left = dispatches - begin;
        let part = begin..begin + if left > 2 * most { most } else { left };
        (begin, most) = (part.end, 2 * most);
        (!part.is_empty()).then_some(part)
    })
}

/// The shader of a call, and another for segments from so many tokens on.
struct Shader {
    decl: &'static Decl,
    many: Option<(u32, &'static Decl)>,
}

struct Dispatch {
    prepared: Prepared,
    /// The first of a row and the last, which are one and the same but for the state of several blocks.
    buffers: Vec<Option<[BufferId; 2]>>,
    /// Where workgroups that wait for each other give each other numbers: the program's own, bound before the others.
    sync: Option<Buffer>,
}

/// A program with its weights.
pub struct Program {
    dispatches: Vec<Dispatch>,
}

/// A program with a session's memory.
pub struct BoundProgram {
    bound: Vec<Bound>,
}

impl Program {
    /// Prepares every dispatch of a list of calls: one per call, or one per piece of a split matrix.
    #[must_use]
    pub fn new(gpu: &Gpu, calls: &[Call], weights: &Weights) -> Self {
        Self::tuned(gpu, calls, weights, &gpu.tuning())
    }

    /// As [`Program::new`], tuned otherwise than the device is.
    #[must_use]
    pub fn tuned(gpu: &Gpu, calls: &[Call], weights: &Weights, tuning: &Tuning) -> Self {
        let best = |call: &Call, format: Option<WeightFormat>| match call
            .cooperative(format, tuning)
            .filter(|_| gpu.cooperative())
        {
            Some(c) => Shader { decl: c.decl, many: c.many.filter(|(from, _)| *from < NEVER) },
            None => Shader { decl: call.decl(), many: None },
        };
        Self::prepare(gpu, calls, weights, tuning, best, |decl| decl)
    }

    /// As [`Program::new`], with other shaders: `decl` says which one stands for a kernel. Checks use it to see a wrong
    /// kernel being noticed. A shader must have a name of its own: compiled ones are kept by name.
    #[must_use]
    pub fn replaced(
        gpu: &Gpu,
        calls: &[Call],
        weights: &Weights,
        decl: impl Fn(&'static Decl) -> &'static Decl,
    ) -> Self {
        let plain = |call: &Call, _| Shader { decl: decl(call.decl()), many: None };
        Self::prepare(gpu, calls, weights, &gpu.tuning(), plain, &decl)
    }

    fn prepare(
        gpu: &Gpu,
        calls: &[Call],
        weights: &Weights,
        tuning: &Tuning,
        shader: impl Fn(&Call, Option<WeightFormat>) -> Shader,
        other: impl Fn(&'static Decl) -> &'static Decl,
    ) -> Self {
        let mut dispatches = Vec::with_capacity(calls.len());
        let waiting = Waiting { blocks: other(MixerStep::decl()), groups: other(TokenStep::decl()) };
        let (mut together, mut rest) = (Together::new(gpu, weights, waiting, calls), calls);
        while let [call, others @ ..] = rest {
            if let Some((dispatch, calls)) = together.dispatch(rest) {
                dispatches.push(dispatch);
                rest = &rest[calls..];
                continue;
            }
            rest = others;
            match call.matrix() {
                None => {
                    for call in [Some(*call), call.rest(tuning)].into_iter().flatten() {
                        let launch = call.launch_tuned(Piece { first_row: 0, rows: 0 }, tuning);
                        dispatches.push(Dispatch::new(gpu, shader(&call, None), launch, weights, None));
                    }
                }
                Some(matrix) => {
                    let stored = &weights.matrices[matrix.id as usize];
                    let tuning = &tuning.for_format(stored.format);
                    for (piece, buffer) in &stored.pieces {
                        let (launch, matrix) = (call.launch_tuned(*piece, tuning), Some((buffer, stored.format)));
                        dispatches.push(Dispatch::new(gpu, shader(call, Some(stored.format)), launch, weights, matrix));
                    }
                }
            }
        }
        Self { dispatches }
    }

    /// What tells whether workgroups that wait for each other ever waited in vain, if there are any, and the word that is
    /// then not zero.
    #[must_use]
    pub fn gave_up(&self) -> Option<(&Buffer, usize)> {
        if cfg!(target_arch = "wasm32") {
            return None; // nobody waits there
        }
        self.dispatches.iter().find_map(|d| d.sync.as_ref()).map(|sync| (sync, MixerStep::GAVE_UP))
    }

    /// Dispatches of one run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }

    /// Kernel names in order of their dispatches.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.dispatches.iter().map(|d| d.prepared.decl.name)
    }

    /// Binds a session's memory.
    #[must_use]
    pub fn bind(&self, gpu: &Gpu, state: &Memory, scratch: &Memory) -> BoundProgram {
        let bound = self.dispatches.iter().map(|d| {
            let row = |[first, last]: [BufferId; 2]| match buffer(first, state, scratch) {
                one if cfg!(target_arch = "wasm32") || first == last => one.clone(),
                row => row.up_to(buffer(last, state, scratch)),
            };
            let own = d.sync.iter().cloned().map(Some);
            let buffers: Vec<_> = own.chain(d.buffers.iter().map(|b| b.map(row))).collect();
            let buffers: Vec<_> = buffers.iter().map(Option::as_ref).collect();
            let args = match d.prepared.grid {
                Grid::Indirect { args, .. } => Some(buffer(args, state, scratch)),
                _ => None,
            };
            gpu.bind_session(&d.prepared, &buffers, args)
        });
        BoundProgram { bound: bound.collect() }
    }

    /// Encodes the program for a segment of `tokens` tokens, in one pass.
    pub fn encode(&self, bound: &BoundProgram, encoder: &mut CommandEncoder, tokens: usize) {
        self.encode_part(bound, encoder, tokens, 0..self.len());
    }

    /// As [`Program::encode`], in a pass that is open.
    pub fn encode_in(&self, bound: &BoundProgram, pass: &mut ComputePass<'_>, tokens: usize) {
        self.encode_range(bound, pass, tokens, 0..self.len());
    }

    /// As [`Program::encode`], but hands the device what is encoded so far now and then, so that it has work while the rest
    /// is encoded. What is left is in the encoder that comes back.
    #[must_use]
    pub fn encode_ahead(
        &self,
        bound: &BoundProgram,
        mut encoder: CommandEncoder,
        tokens: usize,
        gpu: &Gpu,
    ) -> CommandEncoder {
        for part in parts(self.len()) {
            let more = part.end < self.len();
            self.encode_part(bound, &mut encoder, tokens, part);
            if more {
                gpu.submit(std::mem::replace(&mut encoder, gpu.encoder()));
            }
        }
        encoder
    }

    fn encode_part(&self, bound: &BoundProgram, encoder: &mut CommandEncoder, tokens: usize, part: Range<usize>) {
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes: None });
        self.encode_range(bound, &mut pass, tokens, part);
    }

    fn encode_range(&self, bound: &BoundProgram, pass: &mut ComputePass<'_>, tokens: usize, part: Range<usize>) {
        for (dispatch, bound) in self.dispatches[part.clone()].iter().zip(&bound.bound[part]) {
            dispatch.prepared.encode(bound, pass, tokens as u32);
        }
    }
}

impl Dispatch {
    fn new(
        gpu: &Gpu,
        shader: Shader,
        launch: Launch,
        weights: &Weights,
        matrix: Option<(&Buffer, WeightFormat)>,
    ) -> Self {
        let vectors: Vec<_> = launch.vectors.iter().map(|v| v.map(|v| &weights.vectors[v.id as usize])).collect();
        let prepared = gpu.prepare(shader.decl, shader.many, &launch, matrix, &vectors);
        let buffers = launch.buffers.into_iter().map(|id| id.map(|id| [id; 2])).collect();
        Self { prepared, buffers, sync: None }
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn parts_grow_and_leave_nothing_out() {
        for (n, ends) in
            [(0, vec![]), (1, vec![1]), (32, vec![32]), (33, vec![16, 33]), (531, vec![16, 48, 112, 240, 531])]
        {
            assert_eq!(parts(n).map(|part| part.end).collect::<Vec<_>>(), ends, "{n} dispatches");
            assert!(parts(n).flatten().eq(0..n), "{n} dispatches");
        }
    }
}
