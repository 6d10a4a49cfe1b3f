//! Cases of `causal_conv1d`.

use taipan_kernels::{CausalConv1d, Convolution};

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (tokens, first) in [(1, 0), (2, 1), (3, 2), (8, 100), (13, 5), (65, 63)] {
        for (heads, head_dim, groups, d_state, taps) in
            // The last has more taps than a run has tokens.
            [(1, 1, 1, 1, 2), (3, 5, 1, 7, 4), (4, 16, 2, 16, 3), (4, 8, 4, 16, 4), (2, 3, 1, 5, 10)]
        {
            let shape = format!(
                "{tokens} tokens at {first}, {heads} heads of {head_dim}, {groups} groups of {d_state}, {taps} taps"
            );
            let mut b = Builder::new("causal_conv1d", shape, seed, tokens, first);
            let mixer = b.mixer(heads, head_dim, groups, d_state, taps);
            let raw = b.rows("raw", tokens, mixer.projected() as usize, -2.0, 2.0);
            let conv_state = b.conv_ring(taps, mixer.channels() as usize);
            let out_rows = b.output("out", tokens, mixer.channels() as usize);
            let control = b.control();
            // One shape without the activation.
            let conv = Convolution { silu: groups != 2, ..mixer.convolution() };
            out.push(b.call(CausalConv1d { conv, raw, conv_state, control, out: out_rows }));
        }
    }
    out
}
