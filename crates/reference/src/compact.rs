//! Decides which tokens attend, within the bound, and lists them.
//!
//! Token bucket in 16.16 fixed point, per layer: before each token `credit ← min(burst, credit + rate)`; a token that
//! wants attention is selected if `credit ≥ 65536`, which it then pays, and is refused otherwise. Of any L
//! consecutive tokens at most `rate/65536·L + burst/65536` are selected. Source: spec 1.3; compaction: spec 1.2 step
//! 4 (queries exist for selected tokens only).

/// Layout of a selective-attention layer's u32 state.
pub mod sal {
    /// Credit left, 16.16 fixed point.
    pub const CREDIT: usize = 0;
    /// Tokens selected so far.
    pub const SELECTED: usize = 1;
    /// Tokens that wanted attention and were refused by the bound.
    pub const REFUSED: usize = 2;
    /// Credit gained per token, 16.16 fixed point; 0 = no bound.
    pub const RATE: usize = 3;
    /// Most credit that can be held, 16.16 fixed point.
    pub const BURST: usize = 4;
    /// Length of the state; the rest is padding.
    pub const LEN: usize = 8;
}

/// What one selected token costs: 1 in 16.16 fixed point.
const PRICE: u32 = 65536;

/// Fills `mask[t]` with 0 or 1 and `indices` with the selected tokens in order, updates `sal`, returns their count.
pub fn compact(wants: &[u32], sal: &mut [u32], mask: &mut [u32], indices: &mut [u32]) -> usize {
    assert!(sal.len() > sal::BURST, "compact: the layer's state is too short");
    let mut count = 0;
    for (t, (&wants, mask)) in wants.iter().zip(&mut mask[..wants.len()]).enumerate() {
        let admitted = admit(wants != 0, sal);
        *mask = u32::from(admitted);
        if admitted {
            indices[count] = t as u32;
            count += 1;
        }
    }
    count
}

/// One token through the bucket.
fn admit(wants: bool, sal: &mut [u32]) -> bool {
    let bounded = sal[sal::RATE] != 0;
    if bounded {
        sal[sal::CREDIT] = sal[sal::BURST].min(sal[sal::CREDIT] + sal[sal::RATE]);
    }
    if !wants {
        return false;
    }
    if bounded && sal[sal::CREDIT] < PRICE {
        sal[sal::REFUSED] = sal[sal::REFUSED].wrapping_add(1);
        return false;
    }
    if bounded {
        sal[sal::CREDIT] -= PRICE;
    }
    sal[sal::SELECTED] = sal[sal::SELECTED].wrapping_add(1);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn state(rate: u32, burst: u32) -> Vec<u32> {
        let mut sal = vec![0; sal::LEN];
        (sal[sal::CREDIT], sal[sal::RATE], sal[sal::BURST]) = (burst, rate, burst);
        sal
    }

    fn run(wants: &[u32], sal: &mut [u32]) -> Vec<u32> {
        let (mut mask, mut indices) = (vec![9; wants.len()], vec![9; wants.len()]);
        let count = compact(wants, sal, &mut mask, &mut indices);
        let listed: Vec<u32> = (0u32..).zip(&mask).filter(|(_, m)| **m == 1).map(|(t, _)| t).collect();
        assert_eq!(indices[..count], listed, "indices list the mask");
        mask
    }

    fn random_wants(random: &mut Random, n: usize) -> Vec<u32> {
        let share = random.below(11);
        (0..n).map(|_| u32::from(random.below(10) < share)).collect()
    }

    #[test]
    fn unbounded_selects_every_wish_and_leaves_the_credit() {
        let mut sal = state(0, 5);
        assert_eq!(run(&[1, 0, 0, 1, 1], &mut sal), [1, 0, 0, 1, 1]);
        assert_eq!(sal, [5, 3, 0, 0, 5, 0, 0, 0]);
    }

    #[test]
    fn hand_computed_quarter_with_burst_two() {
        // Credit before each decision: 2 | 1.25 | .5 | .75 | 1 | .25 | .5 | .75 | 1
        let mut sal = state(65536 / 4, 2 * 65536);
        assert_eq!(run(&[1; 9], &mut sal), [1, 1, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(sal[..3], [0, 4, 5]);
    }

    #[test]
    fn refill_comes_before_the_decision_and_stops_at_the_burst() {
        let mut sal = state(65536 / 2, 2 * 65536);
        // 2 (full already) | 1.5 | 1 | .5 refused: a cap above the burst would admit the fourth.
        assert_eq!(run(&[0, 1, 1, 1, 1], &mut sal), [0, 1, 1, 1, 0]);
        assert_eq!(sal[sal::CREDIT], 65536 / 2);
    }

    #[test]
    fn the_integer_rule_of_the_specification() {
        let mut random = Random::new(4);
        for _ in 0..300 {
            let c = 1 + random.below(65536) as i64;
            let b = 131_072 + random.below(1 << 20) as i64;
            let wants = random_wants(&mut random, 200);
            let (mut credit, mut expected) = (b, Vec::new());
            for &m in &wants {
                credit = i64::min(b, credit + c);
                let selected = m == 1 && credit >= 65536;
                credit -= if selected { 65536 } else { 0 };
                expected.push(u32::from(selected));
            }
            let mut sal = state(c as u32, b as u32);
            assert_eq!(run(&wants, &mut sal), expected, "c {c}, b {b}");
            let selected: u32 = expected.iter().sum();
            let refused = wants.iter().sum::<u32>() - selected;
            assert_eq!(sal[..3], [credit as u32, selected, refused]);
        }
    }

    #[test]
    fn no_stretch_exceeds_its_bound() {
        let mut random = Random::new(5);
        for round in 0..60 {
            let rate = [1, 65536, 1 + random.below(65536) as u32][round % 3];
            let burst = 131_072 + random.below(1 << 18) as u32;
            let wants = if round % 2 == 0 { vec![1; 150] } else { random_wants(&mut random, 150) };
            let mask = run(&wants, &mut state(rate, burst));
            for start in 0..mask.len() {
                let mut selected = 0u64;
                for (end, &chosen) in mask.iter().enumerate().skip(start) {
                    selected += u64::from(chosen);
                    let bound = u64::from(rate) * (end - start + 1) as u64 + u64::from(burst);
                    assert!(selected * 65536 <= bound, "{start}..={end}: rate {rate} burst {burst}");
                }
            }
        }
    }

    #[test]
    fn a_split_anywhere_decides_the_same() {
        let mut random = Random::new(6);
        let wants = random_wants(&mut random, 60);
        let mut whole = state(9830, 3 * 65536);
        let mask = run(&wants, &mut whole);
        for split in 0..=wants.len() {
            let mut sal = state(9830, 3 * 65536);
            let mut parts = run(&wants[..split], &mut sal);
            parts.extend(run(&wants[split..], &mut sal));
            assert_eq!((parts, &sal), (mask.clone(), &whole), "split at {split}");
        }
    }

    #[test]
    fn the_largest_burst_does_not_overflow() {
        let burst = 32767 * 65536;
        let mut sal = state(65536, burst);
        assert_eq!(run(&[0, 1], &mut sal), [0, 1]);
        assert_eq!(sal[sal::CREDIT], burst - 65536);
    }
}
