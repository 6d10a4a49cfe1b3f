//! Cases of `token_gate`.

use taipan_kernels::{TokenGate, selection};

use crate::Case;
use crate::builder::{Builder, CAPACITY};

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [(1, 1), (1, 13), (65, 64), (17, 65), (5, 300)];
    sizes
        .iter()
        .map(|&(tokens, cols)| {
            let mut b = Builder::new("token_gate", format!("{tokens} x {cols}"), seed, tokens, 0);
            let gate = b.random_vector(3 * cols + 2, -0.5, 0.5);
            let x = b.rows("x", tokens, cols, -2.0, 2.0);
            let selection = b.words("selection", vec![0; selection::len(CAPACITY)]);
            b.check(selection);
            b.call(TokenGate { gate, capacity: CAPACITY as u32, x, selection })
        })
        .collect()
}
