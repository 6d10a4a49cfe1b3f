//! How long a dispatch takes, on weights and states that come from memory.

use taipan::Result;
use taipan::run::cpu::VectorData;
use taipan::run::gpu::{self, upload_vector};
use taipan_gpu::{Buffer, ComputePassDescriptor, Timer};
use taipan_kernels::{BufferId, Call, Kernel, Tuning};
use web_time::Instant;

use super::dispatches::Step;
use super::{Bench, Case};
use crate::draw;

/// Milliseconds in which a GPU that is warm has got no faster.
const SETTLED_MS: u128 = 400;

/// A sample takes about this long.
const SAMPLE_NS: f64 = 1e7;

/// Bytes over which repeated calls are spread, so that weights and states come from memory and not from a cache.
const COLD: u64 = 256 << 20;
const COLD_SOFTWARE: u64 = 64 << 20;

/// A bias of a gate that nothing outweighs.
const OPEN: f32 = 1e6;

/// A call on weights and a state of its own, which in a browser live no longer than they are held.
struct Copy {
    program: gpu::Program,
    bound: gpu::BoundProgram,
    _weights: gpu::Weights,
    _state: gpu::Memory,
}

impl Bench<'_> {
    /// Nanoseconds of one dispatch, several samples.
    pub(super) async fn time(&self, case: &Case<'_>, tuning: &Tuning) -> Result<Vec<f64>> {
        let copies = self.copies(case.calls, tuning)?;
        let run = |times: usize| self.run_copies(&copies, case.tokens, times);
        let once = run(1).await?.min(run(1).await?).max(1.0);
        let times = (SAMPLE_NS / once).clamp(1.0, 256.0) as usize;
        // The CPU was at work before: until its clocks are up, which they are in steps, a GPU takes up to five times as long.
        let (mut best, mut since) = (f64::INFINITY, Instant::now());
        while !self.gpu.report().software && since.elapsed().as_millis() < SETTLED_MS {
            let found = run(times).await?;
            if found < 0.98 * best {
                (best, since) = (found, Instant::now());
            }
        }
        let mut samples = Vec::new();
        for _ in 0..self.setup.repetitions {
            samples.push(run(times).await? / times as f64);
        }
        Ok(samples)
    }

    /// A layer's gate that selects whatever it sees, since what that is changes with every run; and which vector it is.
    fn open_gate(&self, calls: &[Call]) -> Option<(usize, Buffer)> {
        let gate = Step::whole(calls)?.gate?.id as usize;
        let mut vector = self.drawn.vectors(&self.d).swap_remove(gate);
        if let VectorData::F32(numbers) = &mut vector {
            numbers.last_mut().into_iter().for_each(|bias| *bias = OPEN);
        }
        Some((gate, upload_vector(self.gpu, &vector)))
    }

    async fn run_copies(&self, copies: &[Copy], tokens: usize, times: usize) -> Result<f64> {
        let gpu = self.gpu;
        let control = gpu::buffer(self.d.common.control, &self.state, &self.scratch);
        gpu.write_dense(control, self.desc(self.d.common.control), self.memory.u32(self.d.common.control));
        let start = Instant::now();
        let mut encoder = gpu.encoder();
        {
            // One pass, as in a program: beginning one costs more than a small kernel.
            let timestamp_writes = self.timer.as_ref().map(Timer::writes);
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes });
            for i in 0..times {
                let copy = &copies[i % copies.len()];
                copy.program.encode_in(&copy.bound, &mut pass, tokens);
            }
        }
        if let Some(timer) = &self.timer {
            gpu.resolve_timer(&mut encoder, timer);
            gpu.submit(encoder);
            return Ok(gpu.elapsed_ns(timer).await?);
        }
        gpu.submit(encoder);
        gpu.settle().await?;
        Ok((start.elapsed().as_nanos() as f64 - self.roundtrip).max(1.0))
    }

    /// The dispatch on enough copies of its weights and state that a cache does not hold them all.
    fn copies(&self, calls: &[Call], tuning: &Tuning) -> Result<Vec<Copy>> {
        let touched: Vec<BufferId> =
            self.buffers(calls).into_iter().filter(|id| matches!(id, BufferId::State(_))).collect();
        let state_bytes: u64 = touched.iter().map(|id| self.desc(*id).gpu_bytes()).sum();
        let matrices: Vec<usize> = calls.iter().filter_map(|call| Some(call.matrix()?.id as usize)).collect();
        let pieces = matrices.iter().flat_map(|i| &self.weights.matrices[*i].pieces);
        let matrix_bytes: u64 = pieces.map(|(_, b)| b.bytes()).sum();
        let cold = if self.gpu.report().software { COLD_SOFTWARE } else { COLD };
        let count = cold.div_ceil((state_bytes + matrix_bytes).max(1 << 22)).clamp(1, 64);
        let gate = self.open_gate(calls);
        let mut out = Vec::new();
        for i in 0..count {
            let mut weights = self.weights.clone();
            let mut buffers: Vec<Buffer> = self.state.list().to_vec();
            if i > 0 {
                for at in matrices.iter().copied() {
                    weights.matrices[at] = draw::matrix(self.gpu, &self.drawn, &self.d, at, self.setup.format)?;
                }
                for id in touched.iter().filter(|id| **id != self.d.common.control) {
                    let BufferId::State(at) = *id else { continue };
                    let copy = self.gpu.buffer_for(self.desc(*id));
                    let mut encoder = self.gpu.encoder();
                    self.gpu.copy(&mut encoder, &buffers[at as usize], &copy);
                    self.gpu.submit(encoder);
                    buffers[at as usize] = copy;
                }
            }
            gate.iter().for_each(|(at, open)| weights.vectors[*at] = open.clone());
            gpu::in_rows(self.gpu, calls, &mut weights);
            let program = gpu::Program::tuned(self.gpu, calls, &weights, tuning);
            let state = gpu::Memory::from_buffers(buffers);
            let bound = program.bind(self.gpu, &state, &self.scratch);
            out.push(Copy { program, bound, _weights: weights, _state: state });
        }
        self.gpu.check()?;
        Ok(out)
    }
}
