//! Time of every kernel of a program, each call repeated on its own.

use std::collections::BTreeMap;
use std::time::Instant;

use taipan::description::{Description, Shape};
use taipan::layers::Programs;
use taipan::run::cpu::VectorData;
use taipan::run::gpu::{MatrixBuffers, Memory, Program, Weights, upload_vector};
use taipan::{Config, Device};
use taipan_kernels::{BufferId, Call, Kernel, WeightFormat, control};

/// Prints milliseconds per kernel for one decoded token and one segment of `tokens` tokens.
pub(crate) async fn profile(config: &str, device: &Device, tokens: usize) -> taipan::Result<()> {
    let gpu = device.as_gpu().expect("kernels are timed on a GPU");
    let config = Config::from_json(config.as_bytes())?;
    let d = Description::new(&config, Shape { segment: 512, chunk: 64, logit_rows: 64 });
    let mut counter = 0;
    let mut numbers = |n: usize, scale: f32| -> Vec<f32> {
        (0..n)
            .map(|_| {
                counter += 1;
                scale * (taipan_reference::uniform(7, counter) - 0.5)
            })
            .collect()
    };
    let weights = Weights {
        matrices: d
            .recipes
            .matrices
            .iter()
            .map(|m| {
                let mut data = numbers(m.rows * m.cols, 0.2);
                data.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
                MatrixBuffers::upload(gpu, &data, m.cols, WeightFormat::F16, m.rows)
            })
            .collect(),
        vectors: d
            .recipes
            .vectors
            .iter()
            .map(|_| upload_vector(gpu, &VectorData::F32(numbers(1 << 14, 1.0))))
            .collect(),
    };
    let (state, scratch) = (Memory::new(gpu, &d.state), Memory::new(gpu, &d.scratch_buffers));
    let programs = Programs::new(&d);
    let decode: Vec<Call> = programs.decode.iter().chain(&programs.sample).copied().collect();
    for (name, calls, n) in [("decode", &decode, 1), ("prefill", &programs.prefill, tokens)] {
        let mut times: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
        for call in calls {
            let program = Program::new(gpu, &[*call], &weights);
            let bound = program.bind(gpu, &state, &scratch);
            let BufferId::State(c) = d.common.control else { unreachable!("control is state") };
            let mut best = f64::INFINITY;
            for _ in 0..4 {
                let mut words = [0u32; control::LEN];
                words[control::CONSUMED] = 1_000 + n as u32;
                words[control::TOKENS] = n as u32;
                gpu.write(&state.list()[c as usize], 0, &words);
                let start = Instant::now();
                let mut encoder = gpu.encoder();
                program.encode(&bound, &mut encoder, n);
                gpu.submit(encoder);
                gpu.read_dense(&state.list()[c as usize], &d.state.list()[c as usize]).await?;
                best = best.min(start.elapsed().as_secs_f64() * 1e3);
            }
            let entry = times.entry(call.decl().name).or_default();
            *entry = (entry.0 + best, entry.1 + 1);
        }
        println!("{name} of {n} tokens, a submission and a readback around each kernel:");
        for (kernel, (ms, count)) in &times {
            println!("  {kernel:<18} {ms:9.2} ms in {count} calls");
        }
    }
    Ok(())
}
