//! Causal depthwise convolution over time, then SiLU or nothing.
//!
//! `out[t, c] = silu(bias[c] + Σ_k weight[c, k]·raw[t − (taps − 1) + k, c])`: tap `taps − 1` meets the current token.
//! Raw rows before the segment come from a ring `[taps, channels]` of the newest raw rows, slot = position mod taps;
//! rows of positions before the text are zero. out `[n, channels]`. Source: spec 1.1 step 2.

use crate::activation::silu;

/// Where the convolved channels lie and how wide the kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Convolved channels: x, B and C together.
    pub channels: usize,
    /// Kernel width, `d_conv`.
    pub taps: usize,
    /// Length of a row of the source.
    pub stride: usize,
    /// First convolved channel in a row of the source.
    pub offset: usize,
    /// Whether SiLU follows.
    pub silu: bool,
}

impl Conv {
    /// The raw channels of segment token `t`.
    pub(crate) fn row<'a>(&self, src: &'a [f32], t: usize) -> &'a [f32] {
        &src[t * self.stride + self.offset..][..self.channels]
    }
}

/// Convolves `n` tokens, the first of them at position `first`; the ring is read only (see `conv_append`).
pub fn causal_conv1d(
    src: &[f32],
    c: &Conv,
    weight: &[f32],
    bias: &[f32],
    state: &[f32],
    first: usize,
    n: usize,
    out: &mut [f32],
) {
    assert_eq!(weight.len(), c.channels * c.taps, "causal_conv1d: weight is [channels, taps]");
    assert_eq!(bias.len(), c.channels, "causal_conv1d: one bias per channel");
    assert_eq!(state.len(), c.channels * c.taps, "causal_conv1d: state is [taps, channels]");
    let mut acc = vec![0.0; c.channels];
    for (t, out) in out[..n * c.channels].chunks_exact_mut(c.channels).enumerate() {
        for (a, &b) in acc.iter_mut().zip(bias) {
            *a = f64::from(b);
        }
        for k in 0..c.taps {
            // Position read by this tap, shifted up by taps − 1 to stay unsigned.
            let Some(position) = (first + t + k).checked_sub(c.taps - 1) else {
                continue;
            };
            let row = match position.checked_sub(first) {
                Some(t) => c.row(src, t),
                None => &state[position % c.taps * c.channels..][..c.channels],
            };
            for ((a, &w), &x) in acc.iter_mut().zip(weight[k..].iter().step_by(c.taps)).zip(row) {
                *a += f64::from(w) * f64::from(x);
            }
        }
        for (o, &a) in out.iter_mut().zip(&acc) {
            *o = if c.silu { silu(a) } else { a } as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    fn silu32(x: f32) -> f32 {
        x / (1.0 + (-x).exp())
    }

    #[test]
    fn the_last_tap_meets_the_current_token() {
        let c = Conv { channels: 1, taps: 3, stride: 1, offset: 0, silu: true };
        let mut out = [f32::NAN; 3];
        causal_conv1d(&[1., 2., 3.], &c, &[100., 10., 1.], &[0.5], &[0.0; 3], 0, 3, &mut out);
        assert_close(&out, &[silu32(1.5), silu32(12.5), silu32(123.5)], 1e-6);
    }

    #[test]
    fn negative_results_pass_through_silu() {
        let c = Conv { channels: 1, taps: 1, stride: 1, offset: 0, silu: true };
        let mut out = [f32::NAN];
        causal_conv1d(&[2.0], &c, &[-1.0], &[0.0], &[0.0], 0, 1, &mut out);
        assert_close(&out, &[-0.238_405_84], 1e-6);
    }

    #[test]
    fn nothing_follows_where_nothing_is_asked_for() {
        let c = Conv { channels: 1, taps: 1, stride: 1, offset: 0, silu: false };
        let mut out = [f32::NAN];
        causal_conv1d(&[2.0], &c, &[-1.0], &[0.25], &[0.0], 0, 1, &mut out);
        assert_close(&out, &[-1.75], 1e-6);
    }

    #[test]
    fn channels_stride_and_offset_are_kept_apart() {
        let c = Conv { channels: 2, taps: 2, stride: 4, offset: 1, silu: true };
        let src = [9., 1., 2., 9., 9., 3., 4., 9.];
        let mut out = [f32::NAN; 4];
        causal_conv1d(&src, &c, &[10., 1., 20., 2.], &[0.0; 2], &[0.0; 4], 0, 2, &mut out);
        assert_close(&out, &[silu32(1.), silu32(4.), silu32(13.), silu32(48.)], 1e-6);
    }

    #[test]
    fn older_rows_come_from_the_ring_slot_of_their_position() {
        let c = Conv { channels: 1, taps: 3, stride: 1, offset: 0, silu: true };
        // Token at position 7 reads positions 5 and 6: slots 2 and 0. Slot 1 holds position 4, out of reach.
        let mut out = [f32::NAN];
        causal_conv1d(&[7.], &c, &[100., 10., 1.], &[0.0], &[6., f32::NAN, 5.], 7, 1, &mut out);
        assert_close(&out, &[silu32(567.)], 1e-6);
    }

    #[test]
    fn positions_before_the_text_are_zero_whatever_the_ring_holds() {
        let c = Conv { channels: 1, taps: 4, stride: 1, offset: 0, silu: true };
        let mut out = [f32::NAN];
        let ring = [3.0, f32::NAN, f32::NAN, f32::NAN];
        causal_conv1d(&[5.], &c, &[1000., 100., 10., 1.], &[0.0], &ring, 1, 1, &mut out);
        assert_close(&out, &[silu32(35.)], 1e-6);
    }
}
