//! A list of calls that begins on the CPU and ends on a GPU: for finding the call that makes a result wrong.

use taipan_gpu::{Buffer, Gpu};
use taipan_kernels::{BufferDesc, Call, Decl, WeightFormat, row_stride};

use super::cpu::{self, Data, VectorData};
use super::gpu;
use crate::description::{Buffers, Description};
use crate::error::Result;

/// A model on both devices. The GPU has its matrices in f32, whose values are those that the CPU computes with, whatever
/// they were rounded to.
pub struct Split<'a> {
    gpu: &'a Gpu,
    description: &'a Description,
    on_cpu: &'a cpu::Weights,
    on_gpu: gpu::Weights,
    replace: Option<Replace<'a>>,
}

/// Which declaration stands for the kernel of a call.
type Replace<'a> = Box<dyn Fn(&'static Decl) -> &'static Decl + 'a>;

impl<'a> Split<'a> {
    /// Uploads the weights.
    #[must_use]
    pub fn new(gpu: &'a Gpu, description: &'a Description, weights: &'a cpu::Weights) -> Self {
        let matrices = weights.matrices.iter().zip(&description.recipes.matrices).map(|(data, recipe)| {
            // Pairs of rows stay together: a pair is one output of an interleaved matrix.
            let row_bytes = 4 * row_stride(recipe.cols) as u64;
            let most = (gpu.max_binding() / row_bytes).max(2) as usize / 2 * 2;
            gpu::MatrixBuffers::upload(
                gpu,
                &data.to_dense(),
                recipe.cols,
                WeightFormat::F32,
                most.min(recipe.rows.max(1)),
            )
        });
        let matrices = matrices.collect();
        let vectors = weights.vectors.iter().map(|v: &VectorData| gpu::upload_vector(gpu, v)).collect();
        Self { gpu, description, on_cpu: weights, on_gpu: gpu::Weights { matrices, vectors }, replace: None }
    }

    /// Runs other shaders than the kernels' own: with a kernel broken on purpose one can see that [`Split::locate`] finds it.
    #[must_use]
    pub fn replacing(mut self, replace: impl Fn(&'static Decl) -> &'static Decl + 'a) -> Self {
        self.replace = Some(Box::new(replace));
        self
    }

    /// Runs the first `k` calls on the CPU and the others on the GPU, on a segment of `tokens` tokens. State and scratch
    /// go to the GPU in between and are back in `memory` afterwards.
    ///
    /// # Errors
    /// Device errors.
    pub async fn run(&self, calls: &[Call], k: usize, memory: &mut cpu::Memory, tokens: usize) -> Result<()> {
        let (first, rest) = calls.split_at(k.min(calls.len()));
        cpu::run(first, self.on_cpu, memory, tokens);
        let (gpu, d) = (self.gpu, self.description);
        let (state, scratch) = (gpu::Memory::new(gpu, &d.state), gpu::Memory::new(gpu, &d.scratch_buffers));
        for (data, buffer, desc) in pairs(&mut memory.state, &state, &d.state) {
            gpu.write_dense(buffer, desc, &data.to_words());
        }
        for (data, buffer, desc) in pairs(&mut memory.scratch, &scratch, &d.scratch_buffers) {
            gpu.write_dense(buffer, desc, &data.to_words());
        }
        let program = match &self.replace {
            Some(replace) => gpu::Program::replaced(gpu, rest, &self.on_gpu, replace),
            None => gpu::Program::new(gpu, rest, &self.on_gpu),
        };
        let bound = program.bind(gpu, &state, &scratch);
        gpu.check()?;
        let mut encoder = gpu.encoder();
        program.encode(&bound, &mut encoder, tokens);
        gpu.submit(encoder);
        for (data, buffer, desc) in pairs(&mut memory.state, &state, &d.state) {
            data.set_words(&gpu.read_dense(buffer, desc).await?);
        }
        for (data, buffer, desc) in pairs(&mut memory.scratch, &scratch, &d.scratch_buffers) {
            data.set_words(&gpu.read_dense(buffer, desc).await?);
        }
        Ok(())
    }

    /// Bisects a list to the call that makes its result wrong on the GPU: with `k` calls on the CPU the result is right, and
    /// with `k − 1` it is wrong, so it is call `k − 1`. 0 where nothing is wrong; `None` where it is wrong even with all
    /// calls on the CPU.
    ///
    /// # Errors
    /// Device errors.
    pub async fn locate(
        &self,
        calls: &[Call],
        memory: &cpu::Memory,
        tokens: usize,
        right: impl Fn(&cpu::Memory) -> bool,
    ) -> Result<Option<usize>> {
        let is_right = async |k| -> Result<bool> {
            let mut memory = memory.try_clone()?;
            self.run(calls, k, &mut memory, tokens).await?;
            Ok(right(&memory))
        };
        if is_right(0).await? {
            return Ok(Some(0));
        }
        if !is_right(calls.len()).await? {
            return Ok(None);
        }
        let (mut wrong, mut good) = (0, calls.len());
        while good - wrong > 1 {
            let middle = wrong + (good - wrong) / 2;
            *(if is_right(middle).await? { &mut good } else { &mut wrong }) = middle;
        }
        Ok(Some(good))
    }
}

/// Data, buffers and descriptions of one set, but for the empty ones, which nothing refers to.
fn pairs<'a>(
    data: &'a mut [Data],
    memory: &'a gpu::Memory,
    buffers: &'a Buffers,
) -> impl Iterator<Item = (&'a mut Data, &'a Buffer, &'a BufferDesc)> {
    let all = data.iter_mut().zip(memory.list()).zip(buffers.list());
    all.map(|((data, buffer), desc)| (data, buffer, desc)).filter(|(.., desc)| !desc.is_empty())
}
