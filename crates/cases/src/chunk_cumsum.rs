//! Cases of `chunk_cumsum`.

use taipan_kernels::ChunkCumsum;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (tokens, chunk, heads) in [(1, 64, 1), (63, 64, 3), (65, 64, 65), (130, 16, 5), (7, 1, 2), (40, 13, 4)] {
        for limit in [(0.0, f32::INFINITY), (0.05, 0.4)] {
            let shape = format!("{tokens} tokens in chunks of {chunk}, {heads} heads, dt in {limit:?}");
            let mut b = Builder::new("chunk_cumsum", shape, seed, tokens, 0);
            let mut mixer = b.mixer(heads, 4, 1, 8, 4);
            mixer.dt_limit = limit;
            mixer.dt_scale = if tokens == 130 { 0.8 } else { 1.0 };
            // Reaches into both ends of softplus.
            let raw = b.rows("raw", tokens, mixer.projected() as usize, -12.0, 24.0);
            let da = b.output("da", tokens, 4 * heads);
            let control = b.control();
            out.push(b.call(ChunkCumsum { mixer, chunk: chunk as u32, raw, control, da }));
        }
    }
    out
}
