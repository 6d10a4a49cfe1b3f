//! Cases of `rms_norm`.

use taipan_kernels::RmsNorm;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [(1, 1), (1, 13), (3, 64), (17, 63), (65, 65), (5, 768)];
    sizes
        .iter()
        .map(|(tokens, cols)| {
            let mut b = Builder::new("rms_norm", format!("{tokens} x {cols}"), seed, *tokens, 0);
            let norm = b.random_vector(*cols, 0.5, 1.5);
            let x = b.rows("x", *tokens, *cols, -3.0, 3.0);
            let out = b.output("out", *tokens, *cols);
            // One that shows beside a mean square of 3.
            let eps = if *cols == 768 { 1e-5 } else { 0.3 };
            b.call(RmsNorm { norm, eps, x, out })
        })
        .collect()
}
