//! Cases of `window_attention`.

use taipan_kernels::{Attention, Selected, WindowAttention};

use crate::Case;
use crate::attention::attention;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (tokens, first, window, every) in [
        (1, 0, 1, 1),
        (3, 9, 64, 5),
        (5, 3, 1, 1),
        (70, 0, 64, 3),
        (65, 40, 63, 2),
        (20, 500, 65, 1),
        (33, 7, 200, 5),
        (150, 90, 100, 1),
        (300, 9, 130, 11),
    ] {
        for (heads, kv_heads, head_dim, rope) in [
            (1, 1, 1, false),
            (4, 2, 5, false),
            (2, 2, 64, true),
            (3, 1, 130, false),
            (1, 1, 160, false),
            (2, 1, 256, true),
        ] {
            let shape = format!(
                "{tokens} tokens at {first}, every {every}th, window {window}, {heads}/{kv_heads} heads of {head_dim}, rotary {rope}"
            );
            let b = Builder::new("window_attention", shape, seed, tokens, first);
            out.push(case(b, [heads, kv_heads, head_dim, window], rope, every));
        }
    }
    // Full attention of whole segments.
    for (tokens, first, channels) in [(1, 0, 0), (7, 130, 16), (66, 1, 6)] {
        let shape = format!("all of {tokens} tokens at {first}, {channels} channels rotate");
        let b = Builder::new("window_attention", shape, seed, tokens, first);
        out.push(full(b, [4, 2, 16], channels));
    }
    out
}

fn case(mut b: Builder, [heads, kv_heads, head_dim, window]: [u32; 4], rope: bool, every: usize) -> Case {
    let a = attention(heads, kv_heads, head_dim, window);
    let tokens = b.tokens();
    let table = rope.then(|| b.table(10_000.0, head_dim as usize));
    let q = b.rows("q", tokens, a.q_cols() as usize, -2.0, 2.0);
    let kv = b.rows("kv", tokens, a.kv_cols() as usize, -1.0, 1.0);
    let ring = b.ring(&a);
    let selected = b.selection(every);
    let tiles = ((tokens / every) as u32).div_ceil(WindowAttention::queries(head_dim));
    // The second row of the arguments is the attention's: a workgroup per head and tile of selected rows.
    let args = b.words("args", [[0; 4], [heads, tiles, 1, 0]].concat());
    let selected = Some(Selected { args, row: 1, ..selected });
    let out = b.output("out", tokens, a.q_cols() as usize);
    let control = b.control();
    b.call(WindowAttention { attention: a, table, q, kv, ring, control, selected, out })
}

fn full(mut b: Builder, [heads, kv_heads, head_dim]: [u32; 3], channels: usize) -> Case {
    let attention = attention(heads, kv_heads, head_dim, Attention::EVERYTHING);
    let (tokens, cols) = (b.tokens(), attention.kv_cols() as usize);
    let table = (channels > 0).then(|| b.table(10_000.0, channels));
    let q = b.rows("q", tokens, attention.q_cols() as usize, -2.0, 2.0);
    let kv = b.rows("kv", tokens, cols, -1.0, 1.0);
    // A slot for every position so far, and some to spare.
    let slots = b.first() + tokens + 3;
    let ring = b.rows("ring", slots, cols, -1.0, 1.0).buffer;
    let out = b.output("out", tokens, attention.q_cols() as usize);
    let control = b.control();
    b.call(WindowAttention { attention, table, q, kv, ring, control, selected: None, out })
}
