//! Cases of `chunk_state`.

use taipan_kernels::ChunkState;

use crate::Case;
use crate::ssd::SIZES;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    SIZES
        .iter()
        .map(|size| {
            let mut b = size.builder("chunk_state", seed);
            let mixer = size.mixer(&mut b);
            let (xbc, da) = (size.xbc(&mut b, &mixer), size.da(&mut b, &mixer));
            let states = b.output("states", size.chunks() * size.heads * size.head_dim, size.d_state);
            let control = b.control();
            b.call(ChunkState { mixer, chunk: size.chunk as u32, xbc, da, control, states })
        })
        .collect()
}
