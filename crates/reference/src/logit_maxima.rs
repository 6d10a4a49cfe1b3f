//! What the sampler starts from where there are many logits.

use crate::Sampling;
use crate::sample::penalise;

/// Penalises `logits` in place, as [`crate::sample()`] does, and finds the largest of each part: `parts` keys, then as many ids,
/// of equal logits the lowest.
///
/// A workgroup of `width` invocations has 32 · width consecutive logits, in fours; part p of them has fours p, p + width and so
/// on, eight in all. A key is a u32 that orders as the float does; where a part has no logit it is 0, and the id `u32::MAX`.
pub fn logit_maxima(
    s: &Sampling,
    logits: &mut [f32],
    recent: &[u32],
    consumed: u32,
    width: usize,
    parts: usize,
) -> Vec<u32> {
    penalise(s, logits, recent, consumed);
    let mut maxima = vec![0; parts];
    maxima.resize(2 * parts, u32::MAX);
    for (id, logit) in logits.iter().enumerate() {
        let four = id / 4;
        let part = four / (8 * width) * width + four % width;
        if key(*logit) > maxima[part] {
            maxima[part] = key(*logit);
            maxima[parts + part] = id as u32;
        }
    }
    maxima
}

/// Orders as the float does.
fn key(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_every_logit_once_and_know_their_largest() {
        // Two workgroups of two: fours 0, 2, 4 … and 1, 3, 5 … of 64 logits each. The last is alone.
        let mut logits: Vec<f32> = (0..129).map(|i| 1000.0 - i as f32).collect();
        let s = Sampling::default();
        let found = logit_maxima(&s, &mut logits, &[], 0, 2, 6);
        assert_eq!(found[6..], [0, 4, 64, 68, 128, u32::MAX]);
        assert_eq!(found[0], key(1000.0));
        assert!(found[..5].is_sorted_by(|a, b| a > b), "{found:?}");
        assert_eq!(found[5], 0);
        logits[61] = 5000.0;
        logits[62] = 5000.0;
        let found = logit_maxima(&s, &mut logits, &[], 0, 2, 6);
        assert_eq!((found[1], found[7]), (key(5000.0), 61), "four 15, the lower of two");
        let penalised = Sampling { repeat_penalty: 2.0, repeat_last_n: 1, ..s };
        let mut recent = vec![0; crate::RECENT];
        recent[8] = 61;
        let found = logit_maxima(&penalised, &mut logits, &recent, 9, 2, 6);
        assert_eq!((found[7], logits[61], logits[62]), (62, 2500.0, 5000.0));
    }

    #[test]
    fn keys_order_as_floats_do() {
        let floats = [f32::NEG_INFINITY, -1e30, -2.0, -1e-40, 0.0, 1e-40, 1.0, 3e38, f32::INFINITY];
        assert!(floats.map(key).is_sorted_by(|a, b| a < b));
    }
}
