//! Time as the device measures it.

use wgpu::{CommandEncoder, ComputePassTimestampWrites, QueryType};

use crate::{Buffer, Gpu, GpuError, Readback};

/// Two timestamps on the device: the beginning and the end of a pass.
#[derive(Debug)]
pub struct Timer {
    queries: wgpu::QuerySet,
    resolved: Buffer,
    readback: Readback,
}

impl Gpu {
    /// A timer, where the device measures time.
    #[must_use]
    pub fn timer(&self) -> Option<Timer> {
        self.has_timestamps().then(|| {
            let queries = self.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timer"),
                ty: QueryType::Timestamp,
                count: 2,
            });
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            Timer { queries, resolved: self.create("timestamps", 16, usage), readback: self.readback(16) }
        })
    }

    /// Encodes the copy of the timestamps; goes behind the passes.
    pub fn resolve_timer(&self, encoder: &mut CommandEncoder, timer: &Timer) {
        encoder.resolve_query_set(&timer.queries, 0..2, &timer.resolved.raw, 0);
        self.copy_to_readback(encoder, &timer.resolved, &timer.readback, 16);
    }

    /// Nanoseconds between the two timestamps of the last submission; waits for it.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub async fn elapsed_ns(&self, timer: &Timer) -> Result<f64, GpuError> {
        let words = self.read(&timer.readback, 4).await?;
        let ticks = |i: usize| u64::from(words[i]) | u64::from(words[i + 1]) << 32;
        Ok(ticks(2).saturating_sub(ticks(0)) as f64 * f64::from(self.queue.get_timestamp_period()))
    }

    /// Bytes that the device's allocator holds, where the backend tells.
    #[must_use]
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_reserved_bytes)
    }
}

impl Timer {
    /// What to begin the measured pass with.
    #[must_use]
    pub fn writes(&self) -> ComputePassTimestampWrites<'_> {
        ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }
}
