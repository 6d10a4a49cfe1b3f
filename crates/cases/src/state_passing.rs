//! Cases of `state_passing`.

use taipan_kernels::StatePassing;

use crate::Case;
use crate::ssd::SIZES;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    SIZES
        .iter()
        .map(|size| {
            let mut b = size.builder("state_passing", seed);
            let mixer = size.mixer(&mut b);
            let da = size.da(&mut b, &mixer);
            let inner = size.heads * size.head_dim;
            let states = b.rows("states", size.chunks() * inner, size.d_state, -1.0, 1.0);
            let ssm = b.rows("ssm", inner, size.d_state, -1.0, 1.0).buffer;
            b.check(states.buffer);
            b.check(ssm);
            let control = b.control();
            b.call(StatePassing { mixer, chunk: size.chunk as u32, da, control, states, ssm })
        })
        .collect()
}
