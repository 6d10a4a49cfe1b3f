//! The GPU device: each call of a program prepared once per model (pipeline, weights, parameters) and bound once per
//! session (state, scratch), so that running it encodes dispatches and nothing else.

use taipan_gpu::{Bound, Buffer, CommandEncoder, ComputePassDescriptor, Gpu, Prepared};
use taipan_kernels::{BufferId, Call, Grid, Kernel, Piece, WeightFormat};

use crate::description::Buffers;

/// A matrix on the device: consecutive rows, each piece within the binding limit.
#[derive(Debug)]
pub struct MatrixBuffers {
    /// How elements are stored.
    pub format: WeightFormat,
    /// The pieces.
    pub pieces: Vec<(Piece, Buffer)>,
}

/// Weights of a model on the device.
#[derive(Debug, Default)]
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
        Self(buffers.list().iter().map(|desc| gpu.buffer_for(desc)).collect())
    }

    /// The buffers in the order of their ids.
    #[must_use]
    pub fn list(&self) -> &[Buffer] {
        &self.0
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

struct Dispatch {
    prepared: Prepared,
    buffers: Vec<Option<BufferId>>,
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
        let mut dispatches = Vec::with_capacity(calls.len());
        for call in calls {
            match call.matrix() {
                None => {
                    let whole = Piece { first_row: 0, rows: 0 };
                    dispatches.push(Dispatch::new(gpu, call, weights, whole, None));
                }
                Some(matrix) => {
                    let stored = &weights.matrices[matrix.id as usize];
                    for (piece, buffer) in &stored.pieces {
                        dispatches.push(Dispatch::new(gpu, call, weights, *piece, Some((buffer, stored.format))));
                    }
                }
            }
        }
        Self { dispatches }
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
            let buffers: Vec<_> = d.buffers.iter().map(|b| b.map(|id| buffer(id, state, scratch))).collect();
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
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes: None });
        for (dispatch, bound) in self.dispatches.iter().zip(&bound.bound) {
            dispatch.prepared.encode(bound, &mut pass, tokens as u32);
        }
    }
}

impl Dispatch {
    fn new(gpu: &Gpu, call: &Call, weights: &Weights, piece: Piece, matrix: Option<(&Buffer, WeightFormat)>) -> Self {
        let launch = call.launch(piece);
        let vectors: Vec<_> = launch.vectors.iter().map(|v| v.map(|v| &weights.vectors[v.id as usize])).collect();
        let prepared = gpu.prepare(call.decl(), &launch, matrix, &vectors);
        Self { prepared, buffers: launch.buffers }
    }
}
