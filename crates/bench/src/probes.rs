//! Ceilings of a device, measured by kernels that do one thing each.

use taipan::{Device, Result};
use taipan_gpu::{Bound, ComputePassDescriptor, Gpu, Prepared, Timer};
use taipan_kernels::spread;
use web_time::Instant;

use crate::record::Probes;
use crate::shader::{COPY, FMA, STEP, prepare};
use crate::stats::median;

const REPEATS: usize = 7;

/// Measures a device; takes about a second.
///
/// # Errors
/// Device errors.
pub async fn measure(device: &Device) -> Result<Probes> {
    match device.as_gpu() {
        None => Ok(cpu()),
        Some(gpu) => on_gpu(gpu).await,
    }
}

async fn on_gpu(gpu: &Gpu) -> Result<Probes> {
    let roundtrip = roundtrip_ns(gpu).await?;
    let (copy_gbps, fma_gflops) = ceilings(gpu, roundtrip).await?;
    Ok(Probes {
        copy_gbps,
        fma_gflops,
        dispatch_us: Some(dispatch_ns(gpu, roundtrip).await? / 1e3),
        map_roundtrip_us: Some(roundtrip / 1e3),
    })
}

/// How long ceilings are looked for after the last time that they rose by a hundredth, and at most.
const SETTLED_MS: u128 = 800;
const CEILINGS_MS: u128 = 6000;

/// Copy bandwidth and multiply-add rate: the most that was seen, as befits a ceiling. It takes a while until a device's clocks
/// are up, after a pause they can be a third of what they are under load, and a copy can meet memory that is slow together.
async fn ceilings(gpu: &Gpu, roundtrip: f64) -> Result<(f64, f64)> {
    let start = Instant::now();
    let (mut copy, mut fma, mut rose) = (0.0, 0.0, Instant::now());
    loop {
        let found = (copy_gbps(gpu, roundtrip).await?, fma_gflops(gpu, roundtrip).await?);
        if found.0 > 1.01 * copy || found.1 > 1.01 * fma {
            rose = Instant::now();
        }
        (copy, fma) = (f64::max(copy, found.0), f64::max(fma, found.1));
        let settled = rose.elapsed().as_millis() >= SETTLED_MS || start.elapsed().as_millis() >= CEILINGS_MS;
        if gpu.report().software || settled {
            return Ok((copy, fma));
        }
    }
}

/// Nanoseconds of a submission that copies one word and maps it.
pub(crate) async fn roundtrip_ns(gpu: &Gpu) -> Result<f64> {
    let buffer = gpu.buffer("word", 4);
    let readback = gpu.readback(4);
    let mut samples = Vec::new();
    for _ in 0..30 {
        let start = Instant::now();
        let mut encoder = gpu.encoder();
        gpu.copy_to_readback(&mut encoder, &buffer, &readback, 4);
        gpu.submit(encoder);
        gpu.read(&readback, 1).await?;
        samples.push(start.elapsed().as_nanos() as f64);
    }
    // The first few are slow.
    Ok(median(&samples[5..]))
}

/// Nanoseconds of `times` dispatches in a row, by timestamps or, without them, from outside less a round trip.
async fn time(gpu: &Gpu, (prepared, bound): &(Prepared, Bound), times: usize, roundtrip: f64) -> Result<f64> {
    let timer = gpu.timer();
    let word = gpu.buffer("word", 4);
    let readback = gpu.readback(4);
    let start = Instant::now();
    let mut encoder = gpu.encoder();
    {
        let timestamp_writes = timer.as_ref().map(Timer::writes);
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes });
        for _ in 0..times {
            prepared.encode(bound, &mut pass, 1);
        }
    }
    match &timer {
        Some(timer) => gpu.resolve_timer(&mut encoder, timer),
        None => gpu.copy_to_readback(&mut encoder, &word, &readback, 4),
    }
    gpu.submit(encoder);
    match &timer {
        Some(timer) => Ok(gpu.elapsed_ns(timer).await?),
        None => {
            gpu.read(&readback, 1).await?;
            Ok((start.elapsed().as_nanos() as f64 - roundtrip).max(1.0))
        }
    }
}

/// Median nanoseconds of one dispatch, enough of them together that the clock does not matter.
async fn per_dispatch(gpu: &Gpu, work: &(Prepared, Bound), roundtrip: f64) -> Result<f64> {
    let once = time(gpu, work, 1, roundtrip).await?.min(time(gpu, work, 1, roundtrip).await?);
    let times = (2e7 / once).clamp(1.0, 1000.0) as usize;
    let mut samples = Vec::new();
    for _ in 0..REPEATS {
        samples.push(time(gpu, work, times, roundtrip).await? / times as f64);
    }
    Ok(median(&samples))
}

async fn copy_gbps(gpu: &Gpu, roundtrip: f64) -> Result<f64> {
    // Several times any cache; a software adapter copies through the CPU's.
    let wanted: u64 = if gpu.report().software { 64 << 20 } else { 512 << 20 };
    let bytes = wanted.min(gpu.max_binding()) / 4096 * 4096;
    let (source, target) = (gpu.buffer("copy source", bytes), gpu.buffer("copy target", bytes));
    // Zeroed memory may be compressed, or not there at all.
    let noise: Vec<u32> = (0..1 << 18).map(|i: u32| i.wrapping_mul(2_654_435_761) | 1).collect();
    for at in (0..bytes).step_by(1 << 20).filter(|at| at + (1 << 20) <= bytes) {
        gpu.write(&source, at, &noise);
    }
    gpu.flush();
    let count = (bytes / 16) as u32;
    let groups = spread(count.div_ceil(256));
    let work = prepare(gpu, &COPY, vec![], vec![("count", count.into())], groups, &[&source, &target]);
    Ok(2.0 * bytes as f64 / per_dispatch(gpu, &work, roundtrip).await?)
}

async fn fma_gflops(gpu: &Gpu, roundtrip: f64) -> Result<f64> {
    let (groups, rounds) = if gpu.report().software { (64, 256) } else { (8192, 2048) };
    let data = gpu.buffer("fma data", groups * 256 * 16);
    let work = prepare(gpu, &FMA, vec![], vec![("rounds", rounds.into())], [groups as u32, 1, 1], &[&data]);
    let flops = groups as f64 * 256.0 * f64::from(rounds) * 8.0 * 4.0 * 2.0;
    Ok(flops / per_dispatch(gpu, &work, roundtrip).await?)
}

async fn dispatch_ns(gpu: &Gpu, roundtrip: f64) -> Result<f64> {
    let data = gpu.buffer("step data", 16);
    let work = prepare(gpu, &STEP, vec![], vec![("unused", 0u32.into())], [1, 1, 1], &[&data]);
    let mut samples = Vec::new();
    for _ in 0..REPEATS {
        let (few, many) = (time(gpu, &work, 10, roundtrip).await?, time(gpu, &work, 510, roundtrip).await?);
        samples.push((many - few) / 500.0);
    }
    Ok(median(&samples))
}

fn cpu() -> Probes {
    const WORDS: usize = 16 << 20;
    let source: Vec<u32> = (0..WORDS as u32).collect();
    let mut target = vec![0u32; WORDS];
    let mut copy = Vec::new();
    for _ in 0..REPEATS {
        let start = Instant::now();
        copy_all(&source, &mut target);
        copy.push(start.elapsed().as_nanos() as f64);
    }
    assert_eq!(target[WORDS - 1], source[WORDS - 1], "the copy was optimised away");
    let mut fma = Vec::new();
    for _ in 0..REPEATS {
        let start = Instant::now();
        let flops = multiply_add_all();
        fma.push(flops / start.elapsed().as_nanos() as f64);
    }
    Probes {
        copy_gbps: 8.0 * WORDS as f64 / median(&copy),
        fma_gflops: median(&fma),
        dispatch_us: None,
        map_roundtrip_us: None,
    }
}

fn copy_all(source: &[u32], target: &mut [u32]) {
    const PIECE: usize = 1 << 20;
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        target.par_chunks_mut(PIECE).zip(source.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
    }
    #[cfg(target_arch = "wasm32")]
    target.chunks_mut(PIECE).zip(source.chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Multiply-adds on all cores; returns how many operations they were.
fn multiply_add_all() -> f64 {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let threads = rayon::current_num_threads();
        rayon::broadcast(|_| multiply_add()).into_iter().sum::<f64>().max(threads as f64)
    }
    #[cfg(target_arch = "wasm32")]
    multiply_add()
}

struct Chains;

impl pulp::WithSimd for Chains {
    type Output = (f32, usize);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> Self::Output {
        let (a, b) = (simd.splat_f32s(0.999), simd.splat_f32s(0.5));
        let mut x: [S::f32s; 10] = std::array::from_fn(|i| simd.splat_f32s(i as f32));
        for _ in 0..ROUNDS {
            for x in &mut x {
                *x = simd.mul_add_e_f32s(*x, a, b);
            }
        }
        let sum = x.iter().fold(b, |s, x| simd.add_f32s(s, *x));
        (simd.reduce_sum_f32s(sum), S::F32_LANES * x.len())
    }
}

const ROUNDS: usize = 2_000_000;

fn multiply_add() -> f64 {
    let (sum, lanes) = pulp::Arch::new().dispatch(Chains);
    std::hint::black_box(sum);
    2.0 * (ROUNDS * lanes) as f64
}
