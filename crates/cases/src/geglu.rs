//! Cases of `geglu`.

use taipan_kernels::Geglu;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [(1, 1, 1.0), (3, 64, 3.0), (17, 63, 0.01), (65, 65, 8.0)];
    sizes
        .iter()
        .map(|&(tokens, cols, size)| {
            let mut b = Builder::new("geglu", format!("{tokens} x {cols} up to {size}"), seed, tokens, 0);
            let x = b.rows("x", tokens, 2 * cols, -size, size);
            let out = b.output("out", tokens, cols);
            b.call(Geglu { x, out })
        })
        .collect()
}
