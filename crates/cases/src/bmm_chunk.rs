//! Cases of `bmm_chunk`.

use taipan_kernels::BmmChunk;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [
        (1, 64, 1, 1),
        (63, 64, 1, 16),
        (65, 64, 2, 17),
        (130, 64, 1, 128),
        (40, 16, 4, 24),
        (7, 1, 2, 3),
        (40, 13, 1, 15),
    ];
    sizes
        .iter()
        .map(|&(tokens, chunk, groups, d_state)| {
            let shape = format!("{tokens} tokens in chunks of {chunk}, {groups} groups of {d_state}");
            let mut b = Builder::new("bmm_chunk", shape, seed, tokens, 0);
            let mixer = b.mixer(groups, 5, groups, d_state, 4);
            let scale = 1.0 / (d_state as f32).sqrt();
            let xbc = b.rows("xbc", tokens, mixer.channels() as usize, -scale, 1.5 * scale);
            let cb = b.output("cb", tokens.div_ceil(chunk) * groups * chunk, chunk);
            let control = b.control();
            b.call(BmmChunk { mixer, chunk: chunk as u32, xbc, control, cb })
        })
        .collect()
}
