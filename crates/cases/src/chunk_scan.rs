//! Cases of `chunk_scan`.

use taipan_kernels::ChunkScan;

use crate::Case;
use crate::ssd::SIZES;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    SIZES
        .iter()
        .map(|size| {
            let mut b = size.builder("chunk_scan", seed);
            let mixer = size.mixer(&mut b);
            let (xbc, da) = (size.xbc(&mut b, &mixer), size.da(&mut b, &mixer));
            let inner = size.heads * size.head_dim;
            let chunk = size.chunk;
            let cb = b.rows("cb", size.chunks() * size.groups * chunk, chunk, -1.0, 1.0);
            let states = b.rows("states", size.chunks() * inner, size.d_state, -0.2, 0.2);
            let y = b.output("y", size.tokens, inner);
            let control = b.control();
            b.call(ChunkScan { mixer, chunk: chunk as u32, xbc, da, cb, states, control, y })
        })
        .collect()
}
