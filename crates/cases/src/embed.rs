//! Cases of `embed`.

use taipan_kernels::{Embed, WeightFormat, control};
use taipan_reference::RECENT;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for format in WeightFormat::ALL {
        for (tokens, vocab, cols) in [(1, 1, 1), (1, 7, 64), (13, 101, 40), (67, 50, 129)] {
            let b = Builder::new("embed", format!("{tokens} tokens, {vocab} x {cols}"), seed, tokens, 0).format(format);
            out.push(case(b, vocab, cols, 5));
        }
    }
    // The ring of recent ids wraps, and the table is in pieces.
    for format in [WeightFormat::F32, WeightFormat::Q8, WeightFormat::Q4] {
        let b = Builder::new("embed", "20 tokens, 33 x 24", seed, 20, 0).format(format).split(10);
        out.push(case(b, 33, 24, RECENT - 7));
    }
    out
}

fn case(mut b: Builder, vocab: usize, cols: usize, consumed: usize) -> Case {
    let tokens = b.tokens();
    b.set_control(control::CONSUMED, consumed as u32);
    let table = b.matrix(vocab, cols);
    let ids = (0..tokens).map(|_| b.number(0.0, vocab as f32) as u32).collect();
    let ids = b.words("ids", ids);
    let recent = b.words("recent", vec![9_999; RECENT]);
    let hidden = b.output("hidden", tokens, cols);
    let control = b.control();
    b.check(recent);
    b.check(control);
    b.call(Embed { table, scale: 1.0, ids, control, recent, hidden })
}
