//! Cases of `compact`.

use taipan_kernels::{Compact, selection};

use crate::Case;
use crate::attention::buckets;
use crate::builder::{Builder, CAPACITY};

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (bucket, words) in buckets() {
        for (tokens, share) in [(1, 1.0), (1, 0.0), (13, 0.5), (256, 0.15), (257, 1.0), (255, 0.9), (600, 0.3)] {
            let mut b = Builder::new("compact", format!("{tokens} tokens, share {share}, {bucket}"), seed, tokens, 0);
            let mut wishes = vec![0; selection::len(CAPACITY)];
            for t in 0..tokens {
                wishes[selection::masks(CAPACITY) + t] = u32::from(b.number(0.0, 1.0) < share);
            }
            let selection = b.words("selection", wishes);
            let (sal, args) = (b.words("sal", words.clone()), b.words("args", vec![0; 12]));
            b.check(selection);
            b.check(sal);
            b.check(args);
            let (control, capacity) = (b.control(), CAPACITY as u32);
            out.push(b.call(Compact { capacity, q_tiles: 3, o_tiles: 5, heads: 4, control, sal, selection, args }));
        }
    }
    out
}
