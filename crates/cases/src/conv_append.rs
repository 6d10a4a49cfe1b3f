//! Cases of `conv_append`.

use taipan_kernels::ConvAppend;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [(1, 0, 4), (2, 3, 4), (3, 7, 3), (4, 2, 4), (5, 1, 4), (70, 9, 2)];
    sizes
        .iter()
        .map(|&(tokens, first, taps)| {
            let mut b =
                Builder::new("conv_append", format!("{tokens} tokens at {first}, {taps} taps"), seed, tokens, first);
            let mixer = b.mixer(3, 11, 1, 17, taps);
            let raw = b.rows("raw", tokens, mixer.projected() as usize, -2.0, 2.0);
            let conv_state = b.rows("conv_state", taps, mixer.channels() as usize, -2.0, 2.0).buffer;
            b.check(conv_state);
            let control = b.control();
            b.call(ConvAppend { conv: mixer.convolution(), raw, control, conv_state })
        })
        .collect()
}
