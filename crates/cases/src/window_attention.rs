//! Cases of `window_attention`.

use taipan_kernels::{Attention, MergeAttention, Rows, Selected, WindowAttention};

use crate::Case;
use crate::attention::attention;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (tokens, first, window, every) in [
        (1, 0, 1, 1),
        (5, 3, 1, 1),
        (70, 0, 64, 3),
        (65, 40, 63, 2),
        (20, 500, 65, 1),
        (33, 7, 200, 5),
        (300, 9, 130, 11),
    ] {
        for (heads, kv_heads, head_dim, rope) in
            [(1, 1, 1, false), (4, 2, 5, false), (2, 2, 64, true), (3, 1, 130, false)]
        {
            let shape = format!(
                "{tokens} tokens at {first}, every {every}th, window {window}, {heads}/{kv_heads} heads of {head_dim}, rotary {rope}"
            );
            let b = Builder::new("window_attention", shape, seed, tokens, first);
            out.push(case(b, [heads, kv_heads, head_dim, window], rope, every, true));
        }
    }
    // Full attention, of whole segments and of a token whose row is in its slot already.
    for (tokens, first, channels, segment) in
        [(1, 0, 0, true), (1, 70, 6, true), (7, 130, 16, true), (66, 1, 6, true), (1, 65, 16, false)]
    {
        let shape = format!("all of {tokens} tokens at {first}, {channels} channels rotate, segment {segment}");
        let b = Builder::new("window_attention", shape, seed, tokens, first);
        out.push(full(b, [4, 2, 16], channels, segment));
    }
    for (first, window) in [(0, 1), (1, 5), (63, 64), (200, 64), (700, 257), (300, 700), (2500, 2048)] {
        let shape = format!("one token at {first} in the ring, window {window}");
        let b = Builder::new("window_attention", shape, seed, 1, first);
        out.push(case(b, [4, 2, 16, window], first % 2 == 1, 1, false));
    }
    out
}

fn case(
    mut b: Builder,
    [heads, kv_heads, head_dim, window]: [u32; 4],
    rope: bool,
    every: usize,
    segment: bool,
) -> Case {
    let a = attention(heads, kv_heads, head_dim, window);
    let tokens = b.tokens();
    let table = rope.then(|| b.table(10_000.0, head_dim as usize));
    let q = b.rows("q", tokens, a.q_cols() as usize, -2.0, 2.0);
    let kv = segment.then(|| b.rows("kv", tokens, a.kv_cols() as usize, -1.0, 1.0));
    let ring =
        if segment { b.ring(&a) } else { b.rows("ring", window as usize, a.kv_cols() as usize, -1.0, 1.0).buffer };
    let selected = b.selection(every);
    let count = tokens / every;
    // The second row of the arguments is the attention's: a workgroup per selected row and head.
    let args = b.words("args", [[0; 4], [count as u32, heads, 1, 0]].concat());
    let selected = Selected { args, row: 1, ..selected };
    let out = b.output("out", tokens, a.q_cols() as usize);
    let parts = (!segment).then(|| parts(&mut b, heads, head_dim));
    let control = b.control();
    b.call(WindowAttention { attention: a, table, q, kv, ring, control, selected: Some(selected), out, parts })
}

fn full(mut b: Builder, [heads, kv_heads, head_dim]: [u32; 3], channels: usize, segment: bool) -> Case {
    let attention = attention(heads, kv_heads, head_dim, Attention::EVERYTHING);
    let (tokens, cols) = (b.tokens(), attention.kv_cols() as usize);
    let table = (channels > 0).then(|| b.table(10_000.0, channels));
    let q = b.rows("q", tokens, attention.q_cols() as usize, -2.0, 2.0);
    let kv = segment.then(|| b.rows("kv", tokens, cols, -1.0, 1.0));
    // A slot for every position so far, and some to spare.
    let slots = b.first() + tokens + 3;
    let ring = b.rows("ring", slots, cols, -1.0, 1.0).buffer;
    let out = b.output("out", tokens, attention.q_cols() as usize);
    let parts = (tokens == 1).then(|| parts(&mut b, heads, head_dim));
    let control = b.control();
    b.call(WindowAttention { attention, table, q, kv, ring, control, selected: None, out, parts })
}

/// Room that a device may use or not: it is not compared.
fn parts(b: &mut Builder, heads: u32, head_dim: u32) -> Rows {
    let cols = MergeAttention::part_cols(heads, head_dim) as usize;
    b.rows("parts", MergeAttention::MOST as usize, cols, -1.0, 1.0)
}
