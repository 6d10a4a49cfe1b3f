//! Cases of `token_attention`.

use taipan_kernels::{Attention, MergeAttention, TokenAttention};

use crate::Case;
use crate::attention::attention;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (first, a, channels, segment) in [
        (0, attention(4, 2, 16, Attention::EVERYTHING), 0, true),
        (70, attention(4, 2, 16, Attention::EVERYTHING), 6, true),
        (65, attention(4, 2, 16, Attention::EVERYTHING), 16, false),
        (90, attention(4, 2, 5, 80), 0, true),
        (9, attention(3, 1, 130, 7), 0, true),
    ] {
        let (window, head_dim) = (a.window, a.head_dim);
        let shape = format!("at {first}, window {window}, head of {head_dim}, {channels} rotate, segment {segment}");
        out.push(case(Builder::new("token_attention", shape, seed, 1, first), a, channels, segment, None));
    }
    for (heads, kv_heads, head_dim, rope) in
        [(1, 1, 1, false), (4, 2, 5, false), (2, 2, 64, true), (3, 1, 130, false), (2, 1, 256, true)]
    {
        let shape = format!("at 80 in the ring, window 70, {heads}/{kv_heads} heads of {head_dim}, rotary {rope}");
        let a = attention(heads, kv_heads, head_dim, 70);
        let channels = if rope { head_dim as usize } else { 0 };
        out.push(case(Builder::new("token_attention", shape, seed, 1, 80), a, channels, false, Some(1)));
    }
    for (first, window, every) in
        [(0, 1, 1), (1, 5, 1), (3, 5, 2), (63, 64, 1), (200, 64, 1), (700, 257, 1), (300, 700, 1), (2500, 2048, 1)]
    {
        let shape = format!("at {first} in the ring, every {every}th, window {window}");
        let channels = if first % 2 == 1 { 16 } else { 0 };
        let b = Builder::new("token_attention", shape, seed, 1, first);
        out.push(case(b, attention(4, 2, 16, window), channels, false, Some(every)));
    }
    out
}

fn case(mut b: Builder, a: Attention, channels: usize, segment: bool, every: Option<usize>) -> Case {
    let cols = a.kv_cols() as usize;
    let table = (channels > 0).then(|| b.table(10_000.0, channels));
    let q = b.rows("q", 1, a.q_cols() as usize, -2.0, 2.0);
    let kv = segment.then(|| b.rows("kv", 1, cols, -1.0, 1.0));
    // Where every position has its slot there are as many as positions, and some to spare.
    let slots = (a.window as usize).min(b.first() + 4);
    let ring = b.rows("ring", slots, cols, -1.0, 1.0).buffer;
    let selection = every.map(|every| b.selection(every).selection);
    let out = b.output("out", 1, a.q_cols() as usize);
    // Room that a device may use or not: it is not compared.
    let part_cols = MergeAttention::part_cols(a.heads, a.head_dim) as usize;
    let parts = b.rows("parts", MergeAttention::MOST as usize, part_cols, -1.0, 1.0);
    let control = b.control();
    b.call(TokenAttention { attention: a, table, q, kv, ring, control, selection, out, parts })
}
