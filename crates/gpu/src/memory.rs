//! Buffers: creation, upload, readback.

use std::future::poll_fn;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use futures::channel::oneshot;
use taipan_kernels::BufferDesc;
use wgpu::{BufferUsages, CommandEncoder};

use crate::counts::{Allocation, Counters};
use crate::{Gpu, GpuError};

/// A buffer on the device, or one of several in a row. A clone is the same buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(crate) raw: wgpu::Buffer,
    pub(crate) offset: u64,
    bytes: u64,
    held: Arc<Allocation>,
}

/// Where a buffer of a row may begin, on any device.
const ALIGNMENT: u64 = 256;

impl Buffer {
    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "a browser's handles stay on their thread")
    )]
    pub(crate) fn new(
        device: &wgpu::Device,
        counters: &Arc<Counters>,
        label: &str,
        bytes: u64,
        usage: BufferUsages,
    ) -> Self {
        let bytes = whole(bytes);
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        let raw = device.create_buffer(&descriptor);
        let held = Arc::new(Allocation::new(counters, &raw));
        Self { raw, offset: 0, bytes, held }
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it comes right behind another in a row of buffers.
    #[must_use]
    pub fn follows(&self, before: &Self) -> bool {
        let same = Arc::ptr_eq(&self.held, &before.held);
        same && self.offset == before.offset + before.bytes.next_multiple_of(ALIGNMENT)
    }

    /// All of a row from this one to `last`, as one buffer.
    #[must_use]
    pub fn up_to(&self, last: &Self) -> Self {
        assert!(Arc::ptr_eq(&self.held, &last.held) && self.offset <= last.offset, "both are of one row");
        Self { bytes: last.offset + last.bytes - self.offset, ..self.clone() }
    }

    pub(crate) fn binding(&self) -> wgpu::BindingResource<'_> {
        let size = NonZero::new(self.bytes);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.raw, offset: self.offset, size })
    }
}

/// A buffer that the CPU can read after a copy into it.
#[derive(Debug)]
pub struct Readback {
    raw: wgpu::Buffer,
    _held: Allocation,
}

type Mapped = oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>;

impl Readback {
    fn slice(&self, words: usize) -> wgpu::BufferSlice<'_> {
        self.raw.slice(0..4 * words as u64)
    }

    fn map(&self, words: usize) -> Mapped {
        let (sender, receiver) = oneshot::channel();
        self.slice(words).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result);
        });
        receiver
    }
}

/// A place in the queue: everything submitted up to it.
#[derive(Clone, Debug)]
pub struct Submission(wgpu::SubmissionIndex);

/// A readback that is under way.
#[derive(Debug)]
pub struct Reading {
    readback: Readback,
    words: usize,
    after: Submission,
    mapped: Mapped,
}

const STORAGE: BufferUsages =
    BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST).union(BufferUsages::INDIRECT);

/// Bytes that a buffer takes.
fn whole(bytes: u64) -> u64 {
    bytes.next_multiple_of(16).max(16)
}

impl Gpu {
    /// A zeroed storage buffer of at least `bytes` bytes.
    #[must_use]
    pub fn buffer(&self, label: &str, bytes: u64) -> Buffer {
        self.create(label, bytes, STORAGE)
    }

    /// So many zeroed storage buffers of at least `bytes` bytes in a row, which one binding can hold.
    #[must_use]
    pub fn row(&self, label: &str, bytes: u64, count: usize) -> Vec<Buffer> {
        self.row_of(label, &vec![bytes; count])
    }

    /// As [`Gpu::row`], of these sizes.
    #[must_use]
    pub fn row_of(&self, label: &str, bytes: &[u64]) -> Vec<Buffer> {
        let stride = |bytes: &u64| whole(*bytes).next_multiple_of(ALIGNMENT);
        let all = self.create(label, bytes.iter().map(stride).sum(), STORAGE);
        let mut next = 0;
        let mut one = |size: &u64| {
            let offset = next;
            next += stride(size);
            Buffer { offset, bytes: whole(*size), ..all.clone() }
        };
        bytes.iter().map(&mut one).collect()
    }

    /// A zeroed storage buffer for a description.
    #[must_use]
    pub fn buffer_for(&self, desc: &BufferDesc) -> Buffer {
        self.buffer(&desc.name, desc.gpu_bytes())
    }

    /// A uniform buffer holding these words.
    #[must_use]
    pub fn uniform(&self, label: &str, words: &[u32]) -> Buffer {
        // A uniform binding's size is rounded up to that of its struct's alignment.
        let mut padded = words.to_vec();
        padded.resize(words.len().next_multiple_of(4).max(4), 0);
        let buffer = self.create(label, 4 * padded.len() as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        self.write(&buffer, 0, &padded);
        buffer
    }

    pub(crate) fn create(&self, label: &str, bytes: u64, usage: BufferUsages) -> Buffer {
        Buffer::new(&self.device, &self.counters, label, bytes, usage)
    }

    /// Copies words into a buffer, in order with submissions.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, offset: u64, data: &[T]) {
        self.queue.write_buffer(&buffer.raw, buffer.offset + offset, bytemuck::cast_slice(data));
    }

    /// Lets pending uploads go to the device now, so that staging memory does not pile up.
    pub fn flush(&self) {
        self.counters.submitted();
        self.queue.submit([]);
        let _ = self.device.poll(wgpu::PollType::Poll);
    }

    /// A buffer to read `bytes` bytes back through.
    #[must_use]
    pub fn readback(&self, bytes: u64) -> Readback {
        let descriptor = wgpu::BufferDescriptor {
            label: Some("readback"),
            size: bytes.next_multiple_of(4),
            usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
            mapped_at_creation: false,
        };
        let raw = self.device.create_buffer(&descriptor);
        let held = Allocation::new(&self.counters, &raw);
        Readback { raw, _held: held }
    }

    /// Encodes a copy of the start of `source` into a readback buffer.
    pub fn copy_to_readback(&self, encoder: &mut CommandEncoder, source: &Buffer, readback: &Readback, bytes: u64) {
        encoder.copy_buffer_to_buffer(&source.raw, source.offset, &readback.raw, 0, bytes);
    }

    /// Encodes a copy of one word of `source` to a word of a readback buffer.
    pub fn copy_word(&self, encoder: &mut CommandEncoder, source: &Buffer, word: usize, to: &Readback, at: usize) {
        let from = source.offset + 4 * word as u64;
        encoder.copy_buffer_to_buffer(&source.raw, from, &to.raw, 4 * at as u64, 4);
    }

    /// Encodes a copy of a whole buffer.
    pub fn copy(&self, encoder: &mut CommandEncoder, source: &Buffer, target: &Buffer) {
        let bytes = source.bytes.min(target.bytes);
        encoder.copy_buffer_to_buffer(&source.raw, source.offset, &target.raw, target.offset, bytes);
    }

    /// Encodes a copy of these bytes of a buffer to the same place of another.
    pub fn copy_part(&self, encoder: &mut CommandEncoder, [from, to]: [&Buffer; 2], part: Range<u64>) {
        let (at, bytes) = (part.start, part.end - part.start);
        encoder.copy_buffer_to_buffer(&from.raw, from.offset + at, &to.raw, to.offset + at, bytes);
    }

    /// Waits for the copies into a readback buffer and returns its first `words` words.
    ///
    /// # Errors
    /// The device was lost or reported an error.
    pub async fn read(&self, readback: &Readback, words: usize) -> Result<Vec<u32>, GpuError> {
        let mapped = readback.map(words);
        self.mapped(readback, words, mapped, None).await
    }

    /// Begins to read back what a submission copied; later ones need not be waited for.
    #[must_use]
    pub fn read_later(&self, readback: Readback, words: usize, after: Submission) -> Reading {
        let mapped = readback.map(words);
        Reading { readback, words, after, mapped }
    }

    /// Waits for a reading; the buffer comes back with its words.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub async fn finish(&self, reading: Reading) -> Result<(Vec<u32>, Readback), GpuError> {
        let Reading { readback, words, after, mapped } = reading;
        let data = self.mapped(&readback, words, mapped, Some(after)).await?;
        Ok((data, readback))
    }

    async fn mapped(
        &self,
        readback: &Readback,
        words: usize,
        mapped: Mapped,
        after: Option<Submission>,
    ) -> Result<Vec<u32>, GpuError> {
        give_way().await;
        // Natively somebody has to drive the device; in a browser this returns at once and the event loop does.
        let submission_index = after.map(|submission| submission.0);
        let _ = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None });
        self.check()?;
        let mapped = mapped.await;
        // A browser reports errors only now, a shader that it refused included.
        self.check()?;
        match mapped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(GpuError::DeviceLost { reason: error.to_string() }),
            Err(_) => return Err(GpuError::DeviceLost { reason: "a readback was dropped".to_owned() }),
        }
        let data = {
            let view =
                readback.slice(words).get_mapped_range().map_err(|e| GpuError::Driver { message: e.to_string() })?;
            bytemuck::pod_collect_to_vec(&view[..])
        };
        readback.raw.unmap();
        Ok(data)
    }

    /// Waits until the device has done everything asked of it so far, compiling included.
    ///
    /// # Errors
    /// Whatever went wrong meanwhile.
    pub async fn settle(&self) -> Result<(), GpuError> {
        // A buffer can be mapped only when what came before it is done.
        self.read(&self.readback(4), 1).await.map(drop)
    }

    /// Reads a whole buffer back, dense: the padding of its rows is dropped.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub async fn read_dense(&self, buffer: &Buffer, desc: &BufferDesc) -> Result<Vec<u32>, GpuError> {
        let mut encoder = self.encoder();
        let readback = self.copy_whole(&mut encoder, buffer, desc);
        self.submit(encoder);
        self.read_whole(&readback, desc).await
    }

    /// Encodes a copy of a whole buffer into a new readback buffer.
    pub fn copy_whole(&self, encoder: &mut CommandEncoder, buffer: &Buffer, desc: &BufferDesc) -> Readback {
        let readback = self.readback(desc.gpu_bytes());
        self.copy_to_readback(encoder, buffer, &readback, desc.gpu_bytes());
        readback
    }

    /// The dense form of what [`Gpu::copy_whole`] copied, once it is submitted.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub async fn read_whole(&self, readback: &Readback, desc: &BufferDesc) -> Result<Vec<u32>, GpuError> {
        let padded = self.read(readback, desc.gpu_bytes() as usize / 4).await?;
        Ok(dense(&padded, desc))
    }

    /// Writes a whole buffer from its dense form.
    pub fn write_dense(&self, buffer: &Buffer, desc: &BufferDesc, words: &[u32]) {
        assert_eq!(words.len(), desc.len(), "{}: words of the dense form", desc.name);
        self.write(buffer, 0, &padded(words, desc));
    }

    /// A command encoder.
    #[must_use]
    pub fn encoder(&self) -> CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None })
    }

    /// Submits what was encoded.
    pub fn submit(&self, encoder: CommandEncoder) -> Submission {
        self.counters.submitted();
        Submission(self.queue.submit([encoder.finish()]))
    }
}

/// Is pending once. A future that computes for long, or is about to block, awaits this now and then, so that whoever polls
/// it can turn to other work, or drop it.
pub async fn give_way() {
    let mut waited = false;
    poll_fn(|cx| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    #[cfg(target_arch = "wasm32")]
    crate::browser::turn().await;
}

fn dense(padded: &[u32], desc: &BufferDesc) -> Vec<u32> {
    if desc.stride() == desc.cols || desc.cols == 0 {
        return padded[..desc.len()].to_vec();
    }
    padded.chunks_exact(desc.stride()).take(desc.rows).flat_map(|row| &row[..desc.cols]).copied().collect()
}

fn padded(dense: &[u32], desc: &BufferDesc) -> Vec<u32> {
    let mut out = vec![0; desc.rows * desc.stride()];
    if desc.cols > 0 {
        for (to, from) in out.chunks_exact_mut(desc.stride()).zip(dense.chunks_exact(desc.cols)) {
            to[..desc.cols].copy_from_slice(from);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use taipan_kernels::Element;

    use super::*;

    #[test]
    fn padding_and_dropping_it_are_inverse() {
        let desc = BufferDesc { name: "x".into(), rows: 3, cols: 5, element: Element::F32 };
        let words: Vec<u32> = (1..=15).collect();
        let gpu = padded(&words, &desc);
        assert_eq!(gpu.len(), 24);
        assert_eq!(gpu[5..8], [0, 0, 0]);
        assert_eq!(dense(&gpu, &desc), words);
    }
}
