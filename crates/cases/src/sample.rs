//! Cases of `sample`. Only the id is compared, so it must be the same; at a boundary of the draw an f32 sum could pick the
//! neighbour, which at these sizes happens about once in a hundred thousand draws.

use taipan_kernels::{LogitMaxima, Sample, control, sampler};
use taipan_reference::{RECENT, Sampling};

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let base = Sampling { seed: 0x1234_5678_9abc_def0, ..Sampling::default() };
    let greedy = Sampling { temperature: 0.0, ..base.clone() };
    let flat = Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, temperature: 1.0, ..base.clone() };
    let settings = [
        ("defaults", base.clone()),
        ("greedy", greedy.clone()),
        ("greedy, penalty", Sampling { repeat_penalty: 1.5, repeat_last_n: 1024, ..greedy }),
        ("no filter", flat.clone()),
        ("top-k 1", Sampling { top_k: 1, ..base.clone() }),
        ("top-k 300", Sampling { top_k: 300, ..flat.clone() }),
        ("top-k 900", Sampling { top_k: 900, ..flat.clone() }),
        ("top-k 7", Sampling { top_k: 7, ..flat.clone() }),
        ("top-p 0.3", Sampling { top_p: 0.3, ..flat.clone() }),
        ("min-p 0.2", Sampling { min_p: 0.2, ..flat.clone() }),
        ("all, penalty", Sampling { repeat_penalty: 1.3, temperature: 1.7, ..base }),
    ];
    let mut out = Vec::new();
    for (vocab, consumed) in [(1, 0), (2, 1), (13, 5), (256, 64), (257, 2_000), (1_000, 77), (5_000, 9), (70_000, 66)] {
        for (name, s) in &settings {
            let b = Builder::new(
                "sample",
                format!("{vocab} tokens at {consumed}, {name}"),
                seed,
                1,
                consumed - consumed.min(1),
            );
            out.push(case(b, vocab, consumed, s, None));
        }
    }
    // One that stands out, wherever among those that are looked at together, by one workgroup and in parts.
    for eighth in 0..8 {
        let few = Sampling { top_k: 7, temperature: 0.1, ..flat.clone() };
        for (name, s) in [("greedy", &settings[1].1), ("top-k 7", &few)] {
            for (vocab, largest) in [(8_000, 1000 * eighth + 53 + eighth % 4), (70_000, 8_700 * eighth + 9_053)] {
                let shape = format!("{vocab} tokens, {name}, {largest} is the largest");
                out.push(case(Builder::new("sample", shape, seed, 1, 8), vocab, 9, s, Some(largest)));
            }
        }
    }
    out
}

/// The options buffer of a sampling.
pub(crate) fn options(s: &Sampling) -> Vec<u32> {
    let mut words = vec![0; sampler::LEN];
    words[sampler::TEMPERATURE] = s.temperature.to_bits();
    words[sampler::TOP_K] = s.top_k;
    words[sampler::TOP_P] = s.top_p.to_bits();
    words[sampler::MIN_P_LOG] = if s.min_p > 0.0 { s.min_p.ln().to_bits() } else { (-1e30f32).to_bits() };
    words[sampler::PENALTY] = s.repeat_penalty.to_bits();
    words[sampler::LAST_N] = s.repeat_last_n;
    words[sampler::SEED_LO] = s.seed as u32;
    words[sampler::SEED_HI] = (s.seed >> 32) as u32;
    words
}

fn case(mut b: Builder, vocab: usize, consumed: usize, s: &Sampling, largest: Option<usize>) -> Case {
    b.set_control(control::CONSUMED, consumed as u32);
    // Steps of an eighth: plenty of exact ties. With one vocabulary steps of two, more of them than can be listed, with the
    // largest next to none.
    let steps = match vocab {
        5_000 => 0.5,
        70_000 => 4096.0,
        _ => 8.0,
    };
    // With one vocabulary all are negative: a penalty works the other way then.
    let high = if vocab == 257 { -0.5 } else { 4.0 };
    // With one all are so large that their exps are beyond f32, as those of their differences are not.
    let all = if vocab == 1_000 { 60.0 } else { 0.0 };
    let mut logits: Vec<f32> = (0..vocab).map(|_| all + (b.number(-4.0, high) * steps).round() / steps).collect();
    if let Some(id) = largest {
        logits[id] = 9.0;
    }
    let logits = b.rows_of("logits", &logits, vocab);
    let recent = (0..RECENT).map(|_| b.number(0.0, vocab as f32) as u32).collect();
    let recent = b.words("recent", recent);
    let options = b.words("options", options(s));
    let candidates = b.words("candidates", vec![0; vocab]);
    let adjusted = b.rows_of("adjusted", &vec![0.0; vocab], vocab).buffer;
    let ids = b.words("ids", vec![u32::MAX; 4]);
    b.check(ids);
    let control = b.control();
    if LogitMaxima::pays(logits.cols) {
        b.then(LogitMaxima { logits, recent, control, options, maxima: candidates, adjusted });
    }
    b.call(Sample { logits, recent, control, options, candidates, adjusted, ids })
}
