//! A list that begins on the CPU and ends on the GPU: right wherever it changes over, and so a means of finding the call
//! that is wrong.

use pollster::block_on;
use taipan::run::Split;
use taipan::run::cpu::Memory;
use taipan::run::dense::Twins;
use taipan::{Config, Weights};
use taipan_gpu::Gpu;
use taipan_kernels::{Decl, Kernel};
use taipan_tests::compare::{assert_close, worst};
use taipan_tests::device;
use taipan_tests::golden::{Prompt, cases};
use taipan_tests::mutate;
use taipan_tests::oracle::{self, Oracle};

/// GPU against golden files (spec §6).
const GOLDEN: f64 = 2e-3;

/// The model of golden case `name` at position 0, and a prompt of that case.
fn subject(name: &str, tokens: usize) -> (Oracle, Prompt) {
    let case = cases(1).into_iter().find(|c| c.name == name).unwrap();
    let config = Config::from_json(&std::fs::read(case.dir.join("config.json")).unwrap()).unwrap();
    let oracle = Oracle::new(&config, &Weights::open(&case.dir).unwrap(), tokens, Twins::Vectorised);
    (oracle, case.prompts.into_iter().find(|p| p.ids.len() == tokens).unwrap())
}

fn golden_row(prompt: &Prompt, token: usize) -> &[f32] {
    let vocab = prompt.logits.len() / prompt.ids.len();
    &prompt.logits[token * vocab..(token + 1) * vocab]
}

fn gpu() -> std::sync::Arc<Gpu> {
    std::sync::Arc::clone(device::gpu().as_gpu().unwrap())
}

#[test]
fn every_prefix_of_a_prefill_may_run_on_the_cpu() {
    let gpu = gpu();
    let (mut oracle, prompt) = subject("base", 16);
    oracle.stage(&prompt.ids);
    let split = Split::new(&gpu, &oracle.description, &oracle.weights);
    let calls = &oracle.programs.prefill;
    assert!(calls.len() > 40, "{} calls", calls.len());
    for k in 0..=calls.len() {
        let mut memory = oracle.memory.try_clone().expect("memory for a copy");
        block_on(split.run(calls, k, &mut memory, 16)).unwrap();
        let logits = oracle::logits(&oracle.description, &memory);
        assert_close(&format!("{k} calls on the CPU"), &logits, golden_row(&prompt, 15), GOLDEN);
        // The state it leaves is good for the next token, on either device.
        let mut next = oracle.memory.try_clone().expect("memory for a copy");
        block_on(split.run(calls, k, &mut next, 16)).unwrap();
        assert_eq!(next.state, memory.state, "{k} calls on the CPU, again");
    }
}

#[test]
fn every_prefix_of_a_decoded_token_may_run_on_the_cpu() {
    let gpu = gpu();
    for (name, tokens) in [("base", 7), ("rotary", 50)] {
        let (mut oracle, prompt) = subject(name, tokens);
        let last = tokens - 1;
        let _ = oracle.decode(&prompt.ids[..last]);
        oracle.stage(&prompt.ids[last..]);
        let split = Split::new(&gpu, &oracle.description, &oracle.weights);
        let calls = &oracle.programs.decode;
        for k in 0..=calls.len() {
            let mut memory = oracle.memory.try_clone().expect("memory for a copy");
            block_on(split.run(calls, k, &mut memory, 1)).unwrap();
            let logits = oracle::logits(&oracle.description, &memory);
            assert_close(&format!("{name}, {k} calls on the CPU"), &logits, golden_row(&prompt, last), GOLDEN);
        }
    }
}

#[test]
fn a_broken_kernel_is_located() {
    let gpu = gpu();
    let (mut oracle, prompt) = subject("all_selected", 40);
    oracle.stage(&prompt.ids);
    let calls = &oracle.programs.prefill;
    let right =
        |memory: &Memory| worst(&oracle::logits(&oracle.description, memory), golden_row(&prompt, 39)).0 <= GOLDEN;
    let locate = |split: &Split<'_>| block_on(split.locate(calls, &oracle.memory, 40, right)).unwrap();
    let split = || Split::new(&gpu, &oracle.description, &oracle.weights);
    assert_eq!(locate(&split()), Some(0), "nothing is broken");
    let never = block_on(split().locate(calls, &oracle.memory, 40, |_| false)).unwrap();
    assert_eq!(never, None, "not the GPU's fault");
    for kernel in
        ["rms_norm", "causal_conv1d", "chunk_cumsum", "chunk_scan", "rms_norm_gated", "window_attention", "matmul"]
    {
        let is_it = |decl: &Decl| decl.name == kernel;
        let last = calls.iter().rposition(|call| is_it(call.decl())).unwrap();
        let wrong = mutate::every_store(calls[last].decl());
        let broken = split().replacing(move |decl| if is_it(decl) { wrong.decl } else { decl });
        assert_eq!(locate(&broken), Some(last + 1), "{kernel}: {}", wrong.what);
    }
}
