//! Cases of `concat`.

use taipan_kernels::Concat;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [(1, 1, 1), (1, 13, 0), (3, 64, 64), (17, 63, 5), (65, 8, 65), (2, 65, 0)];
    sizes
        .iter()
        .map(|&(tokens, a_cols, b_cols)| {
            let mut b = Builder::new("concat", format!("{tokens} x ({a_cols} + {b_cols})"), seed, tokens, 0);
            let first = b.rows("a", tokens, a_cols, -3.0, 3.0);
            let second = (b_cols > 0).then(|| b.rows("b", tokens, b_cols, -3.0, 3.0));
            let out = b.output("out", tokens, a_cols + b_cols);
            b.call(Concat { a: first, b: second, out })
        })
        .collect()
}
