//! Cases of `rms_norm_gated`.

use taipan_kernels::RmsNormGated;
use taipan_reference::GateMode;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for mode in [GateMode::NormAfterGate, GateMode::NormBeforeGate, GateMode::GateOnly] {
        for (tokens, cols, groups) in [(1, 8, 1), (3, 64, 2), (13, 60, 4), (5, 65, 65), (2, 512, 1), (3, 1100, 1)] {
            let shape = format!("{tokens} x {cols}, {groups} groups, {mode:?}");
            let mut b = Builder::new("rms_norm_gated", shape, seed, tokens, 0);
            let norm = b.random_vector(cols, 0.5, 1.5);
            let y = b.rows("y", tokens, cols, -3.0, 3.0);
            let z = b.rows("z", tokens, cols + 11, -3.0, 3.0);
            let out_rows = b.output("out", tokens, cols);
            let z_scale = if tokens == 3 { 0.7 } else { 1.0 };
            let (norm, groups, z_at) = (Some(norm), groups as u32, 7);
            out.push(b.call(RmsNormGated { norm, eps: 1e-5, groups, mode, y, z, z_at, z_scale, out: out_rows }));
        }
    }
    out
}
