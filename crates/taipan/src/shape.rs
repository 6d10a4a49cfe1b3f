//! How long a segment is, and with it how large the buffers are.

use taipan_kernels::Call;

use crate::description::{Description, Shape};
use crate::error::Result;
use crate::layers::Programs;
use crate::run::gpu;
use crate::{Config, Device, Error, LoadOptions};

/// Logits of all positions are made for so many bytes at a time.
const LOGIT_TILE_BYTES: usize = 16 << 20;

/// Operations of a segment at most where it is longer than 512 tokens: it is one submission, and drivers end those that take
/// a slow GPU seconds. One with matrix units is not so slow.
const SEGMENT_OPERATIONS: u64 = 8_000_000_000_000;
const SEGMENT_OPERATIONS_IN_UNITS: u64 = 2 * SEGMENT_OPERATIONS;

/// What of a device the sizes of buffers depend on.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Bytes of a storage binding at most; `None` on the CPU.
    pub(crate) limit: Option<u64>,
    /// Whether it is known to be a GPU with memory of its own.
    pub(crate) discrete: bool,
    /// Whether it has matrix units that kernels use.
    pub(crate) cooperative: bool,
}

impl Target {
    pub(crate) fn of(device: &Device) -> Self {
        let gpu = device.as_gpu();
        let discrete = gpu.is_some_and(|gpu| gpu.report().kind == "discrete" && !gpu.report().software);
        let cooperative = gpu.is_some_and(|gpu| gpu.cooperative());
        Self { limit: gpu.map(|gpu| gpu.max_binding()), discrete, cooperative }
    }

    /// Tokens of a segment where nobody says how many: the longer, the more of a large GPU is at work.
    fn segment(self, config: &Config, shape: impl Fn(usize) -> Shape) -> usize {
        let Some(limit) = self.limit else { return 256 };
        let fits = |segment: usize| {
            let d = Description::new(config, shape(segment));
            d.scratch_buffers.list().iter().all(|b| b.gpu_bytes() <= limit)
        };
        let (most, operations) =
            if self.cooperative { (4096, SEGMENT_OPERATIONS_IN_UNITS) } else { (2048, SEGMENT_OPERATIONS) };
        let few = |segment: usize| 2 * config.parameters() * segment as u64 <= operations;
        let long = [most, most / 2, most / 4].into_iter().find(|n| self.discrete && *n > 512 && few(*n) && fits(*n));
        long.unwrap_or(512)
    }
}

pub(crate) fn shape(config: &Config, options: &LoadOptions, target: Target) -> Result<Shape> {
    let invalid = |name: &str, value: usize, allowed: &str| Error::InvalidOption {
        name: name.to_owned(),
        value: value.to_string(),
        allowed: allowed.to_owned(),
    };
    let chunk = options.chunk.unwrap_or(64);
    if !(1..=64).contains(&chunk) {
        return Err(invalid("chunk", chunk, "1 to 64 tokens"));
    }
    let of = |segment| {
        let logit_rows = (LOGIT_TILE_BYTES / (4 * config.vocab_size)).clamp(1, segment);
        Shape { segment, chunk, logit_rows }
    };
    let segment = options.segment.unwrap_or_else(|| target.segment(config, of));
    if !(1..=4096).contains(&segment) {
        return Err(invalid("segment", segment, "1 to 4096 tokens"));
    }
    Ok(of(segment))
}

/// Tokens of a prompt that are faster one by one than as a chunk. Measured: on an NVIDIA H200 a token of `mamba2-130m` takes
/// 0.63 ms and a prompt of 8 takes 4.9, of `mamba2-1.3b` 1.7 and 13.8; on llvmpipe with `mamba2-4.8m` 15.8 and 128; on a CPU 2.0,
/// and a prompt of 4 takes 7.7.
pub(crate) fn recurrent(options: &LoadOptions, device: &Device) -> usize {
    options.recurrent.unwrap_or(if device.is_cpu() { 6 } else { 7 })
}

/// What a model is, and what it runs.
pub(crate) fn described(config: &Config, options: &LoadOptions, device: &Device) -> Result<(Description, Programs)> {
    let mut description = Description::new(config, shape(config, options, Target::of(device))?);
    let mut programs = Programs::new(&description);
    match device.as_gpu() {
        Some(gpu) => description.in_rows(gpu::buffer_rows(gpu, &programs.decode)),
        None => programs.sample.retain(|call| !matches!(call, Call::LogitMaxima(_))), // one core looks at the logits once
    }
    Ok((description, programs))
}

#[cfg(test)]
mod tests {
    use taipan_kernels::BufferDesc;

    use super::*;

    #[test]
    fn segments_are_longer_on_a_discrete_gpu_as_far_as_buffers_and_work_allow() {
        let on = |config: &Config, target: Target| shape(config, &LoadOptions::default(), target).unwrap().segment;
        let segment =
            |config: &Config, limit: Option<u64>, discrete| on(config, Target { limit, discrete, cooperative: false });
        let in_units =
            |config: &Config, discrete| on(config, Target { limit: Some(u64::MAX), discrete, cooperative: true });
        let small = Config::from_json(include_bytes!("../../cli/model/config.json")).unwrap();
        assert_eq!(segment(&small, None, false), 256);
        assert_eq!(segment(&small, Some(1 << 27), false), 512);
        assert_eq!(segment(&small, Some(1 << 27), true), 2048);
        // The widest buffer of 2048 tokens has one byte too many, then that of 1024. Logits are no longer the widest.
        let narrow = Config { vocab_size: 100, ..small.clone() };
        let d = |segment| Description::new(&narrow, Shape { segment, chunk: 64, logit_rows: 1024 });
        let widest = |segment| d(segment).scratch_buffers.list().iter().map(BufferDesc::gpu_bytes).max();
        assert_eq!(segment(&narrow, widest(2048).map(|b| b - 1), true), 1024);
        assert_eq!(segment(&narrow, widest(1024).map(|b| b - 1), true), 512);
        assert_eq!((in_units(&small, true), in_units(&small, false)), (4096, 512));
        let mut large = small.clone();
        large.vocab_size = 4_000_000;
        while 2 * large.parameters() * 2048 <= SEGMENT_OPERATIONS {
            large.vocab_size *= 2;
        }
        assert_eq!((segment(&large, Some(u64::MAX), true), in_units(&large, true)), (1024, 2048));
        large.vocab_size *= 2;
        assert_eq!((segment(&large, Some(u64::MAX), true), in_units(&large, true)), (512, 1024));
        large.vocab_size *= 2;
        assert_eq!((segment(&large, Some(u64::MAX), true), in_units(&large, true)), (512, 512));
    }
}
