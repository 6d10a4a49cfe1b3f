//! Cases of `logit_maxima`. Keys are the bits of the logits, so penalties are powers of two, which round nothing.

use taipan_kernels::{LogitMaxima, control};
use taipan_reference::{RECENT, Sampling};

use crate::Case;
use crate::builder::Builder;
use crate::sample::options;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let plain = Sampling::default();
    let penalised = Sampling { repeat_penalty: 2.0, repeat_last_n: 1024, ..plain.clone() };
    let raised = Sampling { repeat_penalty: 0.5, repeat_last_n: 7, ..plain.clone() };
    let settings = [("plain", plain), ("penalty", penalised), ("penalty below 1", raised)];
    let mut out = Vec::new();
    for (vocab, consumed) in [(1, 1), (130, 5), (4_096, 2_000), (9_001, 77)] {
        for (name, s) in &settings {
            let shape = format!("{vocab} tokens at {consumed}, {name}");
            out.push(case(Builder::new("logit_maxima", shape, seed, 1, consumed - 1), vocab, consumed, s));
        }
    }
    out
}

fn case(mut b: Builder, vocab: usize, consumed: usize, s: &Sampling) -> Case {
    b.set_control(control::CONSUMED, consumed as u32);
    // Steps of an eighth: plenty of exact ties.
    let logits: Vec<f32> = (0..vocab).map(|_| (b.number(-4.0, 4.0) * 8.0).round() / 8.0).collect();
    let logits = b.rows_of("logits", &logits, vocab);
    let recent = (0..RECENT).map(|_| b.number(0.0, vocab as f32) as u32).collect();
    let recent = b.words("recent", recent);
    let options = b.words("options", options(s));
    let maxima = b.words("maxima", vec![7; 2 * LogitMaxima::parts(vocab as u32) as usize]);
    let adjusted = b.rows_of("adjusted", &vec![0.0; vocab], vocab).buffer;
    b.check(maxima);
    b.check(adjusted);
    let control = b.control();
    b.call(LogitMaxima { logits, recent, control, options, maxima, adjusted })
}
