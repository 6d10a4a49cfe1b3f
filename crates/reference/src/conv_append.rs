//! Keeps the raw rows that later convolutions need.
//!
//! `state[position mod taps] = raw[position]` for the last min(n, taps) tokens of a segment; state
//! `[taps, channels]`. Runs after `causal_conv1d` of the same segment, which still reads the older rows. Source: spec
//! 1.1 step 2.

use crate::Conv;

/// Stores the newest raw rows of the `n` tokens whose first stands at position `first`.
pub fn conv_append(src: &[f32], c: &Conv, first: usize, n: usize, state: &mut [f32]) {
    assert_eq!(state.len(), c.channels * c.taps, "conv_append: state is [taps, channels]");
    for t in n.saturating_sub(c.taps)..n {
        let slot = (first + t) % c.taps;
        state[slot * c.channels..][..c.channels].copy_from_slice(c.row(src, t));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: Conv = Conv { channels: 2, taps: 3, stride: 3, offset: 1, silu: true };

    #[test]
    fn a_short_segment_replaces_only_its_slots() {
        let mut state = [10., 11., 20., 21., 30., 31.];
        // Positions 4 and 5: slots 1 and 2.
        conv_append(&[9., 1., 2., 9., 3., 4.], &C, 4, 2, &mut state);
        assert_eq!(state, [10., 11., 1., 2., 3., 4.]);
    }

    #[test]
    fn a_long_segment_leaves_its_newest_rows() {
        let src: Vec<f32> = (0..7 * 3).map(|v| v as f32).collect();
        let mut state = [f32::NAN; 6];
        // Positions 2..9; the newest are 6, 7, 8 in slots 0, 1, 2, that is tokens 4, 5, 6.
        conv_append(&src, &C, 2, 7, &mut state);
        assert_eq!(state, [13., 14., 16., 17., 19., 20.]);
    }
}
