//! Cases of `kv_append`.

use taipan_kernels::{Attention, KvAppend};

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [(1, 0, 1, 1), (5, 3, 1, 12), (7, 6, 8, 65), (8, 0, 8, 16), (9, 5, 8, 63), (100, 31, 32, 40)];
    sizes
        .iter()
        .map(|&(tokens, first, window, cols)| {
            let shape = format!("{tokens} tokens at {first}, window {window}, {cols} columns");
            let mut b = Builder::new("kv_append", shape, seed, tokens, first);
            let kv = b.rows("kv", tokens, cols, -1.0, 1.0);
            let ring = b.rows("ring", window, cols, -1.0, 1.0).buffer;
            b.check(ring);
            let control = b.control();
            b.call(KvAppend { kv, control, window: window as u32, ring })
        })
        .chain([full(seed)])
        .collect()
}

/// A window that no text fills, of which only the beginning is there.
fn full(seed: u64) -> Case {
    let (tokens, first, cols) = (9, 70, 12);
    let shape = format!("{tokens} tokens at {first}, every position its slot, {cols} columns");
    let mut b = Builder::new("kv_append", shape, seed, tokens, first);
    let kv = b.rows("kv", tokens, cols, -1.0, 1.0);
    let ring = b.rows("ring", first + tokens + 2, cols, -1.0, 1.0).buffer;
    b.check(ring);
    let control = b.control();
    b.call(KvAppend { kv, control, window: Attention::EVERYTHING, ring })
}
