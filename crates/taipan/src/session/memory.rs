//! A session's memory and the two ways to run a program on it.

use std::ops::Range;

use taipan_gpu::{Buffer, ComputePassDescriptor, Readback, Reading};
use taipan_kernels::{BufferDesc, BufferId};
use taipan_reference::RECENT;

use super::ahead::UNDONE;
use crate::description::{Description, PAGE};
use crate::error::{Error, Result};
use crate::layers::Programs;
use crate::model::{Backend, GpuModel, Inner};
use crate::run::{cpu, gpu};

/// Which program to run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    Prefill,
    Decode,
    Sample,
    FinalNorm,
    LogitTile(usize),
}

impl<P> Programs<P> {
    fn get(&self, run: Run) -> &P {
        match run {
            Run::Prefill => &self.prefill,
            Run::Decode => &self.decode,
            Run::Sample => &self.sample,
            Run::FinalNorm => &self.final_norm,
            Run::LogitTile(i) => &self.logit_tiles[i],
        }
    }
}

/// Steps of decoding, each of which samples a token.
pub(super) struct Steps {
    /// How many, at least one.
    pub(super) steps: u32,
    /// Tokens that they consume, each that of the step before it: as many as steps, or none.
    pub(super) consumes: u32,
    /// Tokens consumed before them.
    pub(super) consumed: u32,
}

/// State (and, on the CPU, scratch) of one session.
pub(super) enum Memory {
    Cpu(cpu::Memory),
    Gpu(Box<GpuMemory>),
}

pub(super) struct GpuMemory {
    state: gpu::Memory,
    bound: Programs<gpu::BoundProgram>,
}

/// A buffer as the model describes it.
fn described(d: &Description, id: BufferId) -> &BufferDesc {
    match id {
        BufferId::State(i) => &d.state.list()[i as usize],
        BufferId::Scratch(i) => &d.scratch_buffers.list()[i as usize],
    }
}

impl Memory {
    pub(super) fn new(model: &Inner) -> Result<Self> {
        let d = &model.description;
        Ok(match &model.backend {
            Backend::Cpu { .. } => Self::Cpu(cpu::Memory::try_new(&d.state, &d.scratch_buffers)?),
            Backend::Gpu(m) => {
                let state = gpu::Memory::new(&m.gpu, &d.state);
                let bound = m.programs.map(|p| p.bind(&m.gpu, &state, &m.scratch));
                m.gpu.check()?;
                Self::Gpu(Box::new(GpuMemory { state, bound }))
            }
        })
    }

    /// A buffer as it is: a cache has grown with its text.
    fn desc(&self, model: &Inner, id: BufferId) -> BufferDesc {
        let d = &model.description;
        let mut desc = described(d, id).clone();
        if d.caches().any(|cache| cache == id) {
            desc.rows = self.capacity(model);
        }
        desc
    }

    /// Tokens that the caches of full attention have room for; without such layers a text has no end.
    pub(super) fn capacity(&self, model: &Inner) -> usize {
        let Some(id) = model.description.caches().next() else { return usize::MAX };
        let desc = described(&model.description, id);
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => g.buffer(m, id).bytes() as usize / (4 * desc.stride()),
            (Self::Cpu(c), _) => c.f32(id).len() / desc.cols,
            _ => unreachable!("{MISMATCH}"),
        }
    }

    /// Makes room for `tokens` tokens in the caches, in whole pages and by half of what there is, so that a long text is
    /// not copied at every step.
    pub(super) fn reserve(&mut self, model: &Inner, tokens: usize) -> Result<()> {
        let capacity = self.capacity(model);
        if tokens <= capacity {
            return Ok(());
        }
        let rows = tokens.max(capacity + capacity / 2).next_multiple_of(PAGE);
        let d = &model.description;
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => g.grow(d, m, tokens, rows),
            (Self::Cpu(c), _) => d.caches().try_for_each(|id| c.grow(id, rows * described(d, id).cols)),
            _ => unreachable!("{MISMATCH}"),
        }
    }

    /// Overwrites words of a state buffer of words, from word `at` on.
    pub(super) fn write(&mut self, model: &Inner, id: BufferId, at: usize, words: &[u32]) {
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => m.gpu.write(g.buffer(m, id), 4 * at as u64, words),
            (Self::Cpu(c), _) => c.u32_mut(id)[at..at + words.len()].copy_from_slice(words),
            _ => unreachable!("{MISMATCH}"),
        }
    }

    /// Overwrites a whole buffer from its dense form.
    pub(super) fn write_dense(&mut self, model: &Inner, id: BufferId, words: &[u32]) {
        let desc = self.desc(model, id);
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => m.gpu.write_dense(g.buffer(m, id), &desc, words),
            (Self::Cpu(c), _) => c.set_words(id, words),
            _ => unreachable!("{MISMATCH}"),
        }
    }

    /// The dense form of a whole buffer.
    pub(super) async fn read_dense(&mut self, model: &Inner, id: BufferId) -> Result<Vec<u32>> {
        let desc = self.desc(model, id);
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => {
                let words = m.gpu.read_dense(g.buffer(m, id), &desc).await?;
                #[cfg(not(target_arch = "wasm32"))] // where nobody waits
                if let Some(gave_up) = m.programs.decode.gave_up().filter(|_| {
                    let floats = desc.element == taipan_kernels::Element::F32;
                    floats && words.iter().any(|word| f32::from_bits(*word).is_nan())
                }) {
                    nobody_gave_up(m, gave_up).await?;
                }
                Ok(words)
            }
            (Self::Cpu(c), _) => Ok(c.get(id).to_words()),
            _ => unreachable!("{MISMATCH}"),
        }
    }

    /// Runs programs one after another on one token, in one submission.
    pub(super) fn run(&mut self, model: &Inner, runs: &[Run]) -> Result<()> {
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => {
                let turn = m.turn();
                let mut encoder = m.gpu.encoder();
                for run in runs {
                    m.programs.get(*run).encode(g.bound.get(*run), &mut encoder, 1);
                }
                m.gpu.submit(encoder);
                drop(turn);
                Ok(m.gpu.check()?)
            }
            (Self::Cpu(c), Backend::Cpu { weights, programs }) => {
                for run in runs {
                    cpu::run(programs.get(*run), weights, c, 1);
                }
                Ok(())
            }
            _ => unreachable!("{MISMATCH}"),
        }
    }

    /// Runs programs one after another on a segment of `tokens` tokens and returns the dense form of buffers as they are
    /// after each. No other session comes between, with which it shares the scratch space. The CPU gives way after every
    /// call.
    pub(super) async fn run_and_read(
        &mut self,
        model: &Inner,
        steps: &[(Run, Vec<BufferId>)],
        tokens: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let mut read = Vec::new();
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => {
                let copies = g.submit_steps(m, &model.description, steps, tokens);
                for (copy, desc) in &copies {
                    read.push(m.gpu.read_whole(copy, desc).await?);
                }
            }
            (Self::Cpu(c), Backend::Cpu { weights, programs }) => {
                for (run, ids) in steps {
                    cpu::run_giving_way(programs.get(*run), weights, c, tokens).await;
                    read.extend(ids.iter().map(|id| c.get(*id).to_words()));
                }
            }
            _ => unreachable!("{MISMATCH}"),
        }
        Ok(read)
    }

    /// Runs steps on a GPU, after a copy of the state into `keep`, and begins to read their tokens, and behind them whether
    /// anybody waited in vain: one submission.
    pub(super) fn step(
        &mut self,
        m: &GpuModel,
        d: &Description,
        run: &Steps,
        readback: Readback,
        keep: Option<&gpu::Memory>,
    ) -> Result<Reading> {
        let Self::Gpu(g) = self else { unreachable!("{MISMATCH}") };
        let turn = m.turn();
        let mut encoder = m.gpu.encoder();
        if let Some(keep) = keep {
            g.state.copy_parts(keep, &m.gpu, &mut encoder, &|i| undone(d, i, run.consumed));
        }
        {
            // One pass for all: between two a GPU is idle for some microseconds.
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            for _ in 0..run.steps {
                if run.consumes > 0 {
                    m.programs.decode.encode_in(&g.bound.decode, &mut pass, 1);
                }
                m.programs.sample.encode_in(&g.bound.sample, &mut pass, 1);
            }
        }
        // A token that was consumed is among the recent ones, the last is where it was put.
        let mut copy = |buffer: &Buffer, word, at| m.gpu.copy_word(&mut encoder, buffer, word, &readback, at);
        let last = run.steps as usize - 1;
        for at in 0..last {
            copy(g.buffer(m, d.common.recent), (run.consumed as usize + 1 + at) % RECENT, at);
        }
        copy(g.buffer(m, d.common.ids), 0, last);
        if let Some((sync, word)) = m.programs.decode.gave_up() {
            copy(sync, word, last + 1);
        }
        let submission = m.gpu.submit(encoder);
        drop(turn);
        m.gpu.check()?;
        Ok(m.gpu.read_later(readback, last + 2, submission))
    }

    /// Puts a GPU's state back from a copy that [`Memory::step`] kept when so many tokens were consumed.
    pub(super) fn put_back(&mut self, m: &GpuModel, d: &Description, kept: &gpu::Memory, consumed: u32) -> Result<()> {
        let Self::Gpu(g) = self else { unreachable!("{MISMATCH}") };
        let mut encoder = m.gpu.encoder();
        kept.copy_parts(&g.state, &m.gpu, &mut encoder, &|i| undone(d, i, consumed));
        m.gpu.submit(encoder);
        Ok(m.gpu.check()?)
    }

    /// Word 0 of a buffer of words on the CPU.
    pub(super) fn word(&self, id: BufferId) -> u32 {
        let Self::Cpu(c) = self else { unreachable!("{MISMATCH}") };
        c.u32(id)[0]
    }

    /// Waits until the device has done everything submitted so far.
    pub(super) async fn settle(&mut self, model: &Inner) -> Result<()> {
        let control = model.description.common.control;
        self.read_dense(model, control).await.map(|_| ())
    }

    /// A copy of the state on the CPU, for [`Memory::put_state`]; a GPU's work is submitted whole and needs none.
    pub(super) fn copy_state(&self) -> Result<Option<Vec<cpu::Data>>> {
        match self {
            Self::Cpu(c) => c.copy_state().map(Some),
            Self::Gpu(_) => Ok(None),
        }
    }

    /// Replaces the state on the CPU.
    pub(super) fn put_state(&mut self, state: Vec<cpu::Data>) {
        match self {
            Self::Cpu(c) => c.state = state,
            Self::Gpu(_) => unreachable!("{MISMATCH}"),
        }
    }

    /// A copy of a session's state in new memory.
    pub(super) fn fork(&self, model: &Inner) -> Result<Self> {
        match (self, &model.backend) {
            (Self::Gpu(g), Backend::Gpu(m)) => {
                let mut copy = Self::new(model)?;
                let capacity = self.capacity(model);
                if capacity < usize::MAX {
                    copy.reserve(model, capacity)?;
                }
                let Self::Gpu(to) = &copy else { unreachable!("{MISMATCH}") };
                let mut encoder = m.gpu.encoder();
                g.state.copy_to(&to.state, &m.gpu, &mut encoder);
                m.gpu.submit(encoder);
                m.gpu.check()?;
                Ok(copy)
            }
            (Self::Cpu(c), _) => {
                let mut copy = Self::new(model)?;
                copy.put_state(c.copy_state()?);
                Ok(copy)
            }
            _ => unreachable!("{MISMATCH}"),
        }
    }
}

const MISMATCH: &str = "a session's memory is of its model's device";

/// Of a buffer that has rows of tokens the parts that have to be kept, lest [`UNDONE`] tokens behind so many change them: of
/// a ring the rows that they are written over, of a cache none, as nobody has read theirs.
fn undone(d: &Description, index: u32, consumed: u32) -> Option<Vec<Range<u64>>> {
    let id = BufferId::State(index);
    if d.caches().any(|cache| cache == id) {
        return Some(vec![]);
    }
    let desc = described(d, d.rings().find(|ring| *ring == id)?);
    let (rows, row) = (desc.rows as u64, 4 * desc.stride() as u64);
    let (first, count) = (u64::from(consumed) % rows, u64::from(UNDONE));
    if count >= rows {
        return None;
    }
    let end = first + count;
    let parts = [first..end.min(rows), 0..end.saturating_sub(rows)];
    Some(parts.into_iter().filter(|p| !p.is_empty()).map(|p| p.start * row..p.end * row).collect())
}

impl GpuMemory {
    /// Moves the caches to buffers of so many rows, or of as many as a binding holds and `tokens` need.
    fn grow(&mut self, d: &Description, m: &GpuModel, tokens: usize, rows: usize) -> Result<()> {
        let mut encoder = m.gpu.encoder();
        let mut grown = Vec::new();
        for id in d.caches() {
            let BufferId::State(index) = id else { unreachable!("a cache is a session's") };
            let mut desc = described(d, id).clone();
            let row = 4 * desc.stride() as u64;
            let most = (m.gpu.max_binding() / row) as usize;
            if tokens > most {
                return Err(Error::LimitTooSmall {
                    limit: "maxStorageBufferBindingSize".to_owned(),
                    needed: tokens as u64 * row,
                    available: m.gpu.max_binding(),
                    what: format!("a text of {tokens} tokens"),
                });
            }
            desc.rows = rows.min(most);
            let buffer = m.gpu.buffer_for(&desc);
            m.gpu.copy(&mut encoder, self.buffer(m, id), &buffer);
            grown.push((index, buffer));
        }
        m.gpu.submit(encoder);
        m.gpu.check()?;
        for (index, buffer) in grown {
            self.state.replace(index, buffer);
        }
        self.bound = m.programs.map(|p| p.bind(&m.gpu, &self.state, &m.scratch));
        Ok(m.gpu.check()?)
    }

    /// Submits programs, and copies of buffers as they are after each.
    fn submit_steps<'a>(
        &self,
        m: &GpuModel,
        d: &'a Description,
        steps: &[(Run, Vec<BufferId>)],
        tokens: usize,
    ) -> Vec<(Readback, &'a BufferDesc)> {
        let _turn = m.turn();
        let mut encoder = m.gpu.encoder();
        let mut copies = Vec::new();
        for (run, ids) in steps {
            let (program, bound) = (m.programs.get(*run), self.bound.get(*run));
            match run {
                Run::Prefill => encoder = program.encode_ahead(bound, encoder, tokens, &m.gpu),
                _ => program.encode(bound, &mut encoder, tokens),
            }
            for id in ids {
                let desc = described(d, *id);
                copies.push((m.gpu.copy_whole(&mut encoder, self.buffer(m, *id), desc), desc));
            }
        }
        m.gpu.submit(encoder);
        copies
    }

    /// Bytes of the state on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.state.bytes()
    }

    fn buffer<'a>(&'a self, m: &'a GpuModel, id: BufferId) -> &'a Buffer {
        gpu::buffer(id, &self.state, &m.scratch)
    }
}

/// Workgroups that wait for each other in vain leave no numbers; what did is then an error.
#[cfg(not(target_arch = "wasm32"))]
async fn nobody_gave_up(m: &GpuModel, (sync, word): (&Buffer, usize)) -> Result<()> {
    let readback = m.gpu.readback(4);
    let mut encoder = m.gpu.encoder();
    m.gpu.copy_word(&mut encoder, sync, word, &readback, 0);
    m.gpu.submit(encoder);
    match m.gpu.read(&readback, 1).await?[..] {
        [0] => Ok(()),
        _ => Err(taipan_gpu::GpuError::NotTogether.into()),
    }
}
