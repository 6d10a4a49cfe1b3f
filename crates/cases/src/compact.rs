//! Cases of `compact`.

use taipan_kernels::{Compact, selection};

use crate::Case;
use crate::attention::buckets;
use crate::builder::{Builder, CAPACITY};

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (bucket, words) in buckets() {
        for (tokens, share, capacity) in [
            (1, 1.0, CAPACITY),
            (1, 0.0, CAPACITY),
            (13, 0.5, 13),
            (256, 0.15, CAPACITY),
            (257, 1.0, CAPACITY),
            (255, 0.9, CAPACITY),
            (8192, 0.1, 8192),
            (4096, 1.0, 5000),
            (600, 0.3, CAPACITY),
        ] {
            let mut b = Builder::new("compact", format!("{tokens} tokens, share {share}, {bucket}"), seed, tokens, 0);
            let mut wishes = vec![0; selection::len(capacity)];
            for t in 0..tokens {
                wishes[selection::masks(capacity) + t] = u32::from(b.number(0.0, 1.0) < share);
            }
            let selection = b.words("selection", wishes);
            let (sal, args) = (b.words("sal", words.clone()), b.words("args", vec![0; 12]));
            b.check(selection);
            b.check(sal);
            b.check(args);
            let (control, capacity) = (b.control(), capacity as u32);
            let (q_tiles, o_tiles, heads, queries) = (3, 5, 4, 16);
            out.push(b.call(Compact { capacity, q_tiles, o_tiles, heads, queries, control, sal, selection, args }));
        }
    }
    out
}
