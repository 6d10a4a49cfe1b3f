//! Cases of `mixer_update`.

use taipan_kernels::MixerUpdate;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    // The last has more columns than the lanes of a slot take at once.
    let sizes = [
        (1, 1, 1, 1, 2),
        (3, 5, 1, 7, 4),
        (4, 16, 2, 16, 4),
        (4, 31, 4, 33, 3),
        (6, 33, 3, 31, 4),
        (2, 64, 1, 128, 4),
        (2, 35, 1, 200, 4),
    ];
    for (heads, head_dim, groups, d_state, taps) in sizes {
        for (gate, first) in [(true, 0), (false, 5)] {
            let shape = format!(
                "{heads} heads of {head_dim}, {groups} groups of {d_state}, {taps} taps at {first}, gate {gate}"
            );
            let mut b = Builder::new("mixer_update", shape, seed, 1, first);
            let mut mixer = b.mixer(heads, head_dim, groups, d_state, taps);
            if !gate {
                mixer.dt_limit = (0.02, 0.3);
                mixer.dt_scale = 1.4;
            } else if heads == 4 {
                mixer.z_scale = 0.6;
            }
            let projected = b.rows("projected", 1, mixer.projected() as usize, -2.0, 2.0);
            let conv_state = b.conv_ring(taps, mixer.channels() as usize);
            let ssm = b.rows("ssm", heads * head_dim, d_state, -1.0, 1.0).buffer;
            let y = b.output("y", 1, heads * head_dim);
            b.check(conv_state);
            b.check(ssm);
            let control = b.control();
            out.push(b.call(MixerUpdate { mixer, gate, projected, control, conv_state, ssm, y }));
        }
    }
    out
}
