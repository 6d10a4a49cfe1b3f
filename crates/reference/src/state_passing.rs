//! Carries the state across chunks.
//!
//! Walking the chunks in order: `next = exp(Σ dA of the chunk)·S + states[chunk]`, then `states[chunk] ← S` (the
//! state at the chunk's start) and `S ← next`. states `[ceil(n/q), H, P, N]`, ssm `[H·P, N]`. Source: arXiv
//! 2405.21060, section 6 (center factors).

use crate::Ssm;

/// Turns per-chunk contributions into entry states and advances `ssm` from entry to exit of the segment.
pub fn state_passing(s: &Ssm, q: usize, da: &[f32], n: usize, states: &mut [f32], ssm: &mut [f32]) {
    let (heads, tile) = (s.heads, s.head_dim * s.d_state);
    assert_eq!(ssm.len(), heads * tile, "state_passing: ssm is [H·P, N]");
    let chunks = n.div_ceil(q);
    for (chunk, states) in states[..chunks * ssm.len()].chunks_exact_mut(ssm.len()).enumerate() {
        let last = ((chunk + 1) * q).min(n) - 1;
        for h in 0..heads {
            let decay = f64::from(da[(last * 4 + 2) * heads + h]).exp();
            let tile = h * tile..(h + 1) * tile;
            for (state, carried) in states[tile.clone()].iter_mut().zip(&mut ssm[tile]) {
                let next = decay * f64::from(*carried) + f64::from(*state);
                *state = std::mem::replace(carried, next as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    #[test]
    fn hand_computed_three_chunks_the_last_one_short() {
        let s = Ssm { heads: 2, head_dim: 1, groups: 1, d_state: 1, dt_limit: (0.0, 1.0) };
        // Only the prefix of a chunk's last token counts: tokens 1, 3 and 4 of five in chunks of 2.
        let mut da = [f32::NAN; 5 * 8];
        for (t, decays) in [(1, [0.5f32, 0.25]), (3, [0.1, 1.0]), (4, [0.2, 0.5])] {
            da[t * 8 + 4] = decays[0].ln();
            da[t * 8 + 5] = decays[1].ln();
        }
        let mut states = [1., 2., 3., 4., 5., 6.];
        let mut ssm = [10., 20.];
        state_passing(&s, 2, &da, 5, &mut states, &mut ssm);
        // Head 0: 10 → 10/2 + 1 = 6 → 6/10 + 3 = 3.6 → 3.6/5 + 5 = 5.72
        // Head 1: 20 → 20/4 + 2 = 7 → 7 + 4 = 11 → 11/2 + 6 = 11.5
        assert_close(&states, &[10., 20., 6., 7., 3.6, 11.], 1e-6);
        assert_close(&ssm, &[5.72, 11.5], 1e-6);
    }
}
