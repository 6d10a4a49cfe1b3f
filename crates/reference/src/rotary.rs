//! Rotary position embedding, half-split ("rotate half") form, with the angle reduced in integers.
//!
//! Pair (i, i + n/2) of the first n channels of a head turns by `position·theta^(−2i/n)`, the others stay. The table holds each frequency as
//! turns per position, a 64-bit fraction of a turn in two words: `freq/(2π) = (hi·2³² + lo)/2⁶⁴`. Then
//! `t = position·hi + mulhi(position, lo)` (wrapping u32) is the angle as a fraction of a turn: whole turns vanish by
//! the wrap, so a position of a million is as exact as position 1, on any device and without wide integers. Source:
//! spec 1.2 step 5 (`rope_theta`).

use std::f64::consts::TAU;

/// `[hi, lo]` of every pair, flattened: `head_dim` words.
#[must_use]
pub fn rotary_table(theta: f64, head_dim: usize) -> Vec<u32> {
    assert!(head_dim.is_multiple_of(2), "rotary_table: head_dim {head_dim} has no half");
    (0..head_dim / 2)
        .flat_map(|i| {
            let turns = theta.powf(-2.0 * i as f64 / head_dim as f64) / TAU;
            let fraction = ((turns - turns.floor()) * 2f64.powi(64)) as u64;
            [(fraction >> 32) as u32, fraction as u32]
        })
        .collect()
}

/// Turns the first `heads` heads of `row` in place: of each, as many channels as the table has words.
pub fn rotary(row: &mut [f32], heads: usize, head_dim: usize, table: &[u32], position: u32) {
    assert!(table.len() <= head_dim, "rotary: the table is two words per pair of channels");
    let half = table.len() / 2;
    let rotations: Vec<(f64, f64)> =
        table.chunks_exact(2).map(|words| angle(position, words[0], words[1]).sin_cos()).collect();
    for head in row[..heads * head_dim].chunks_exact_mut(head_dim) {
        let (low, high) = head[..2 * half].split_at_mut(half);
        for ((a, b), &(sin, cos)) in low.iter_mut().zip(high).zip(&rotations) {
            let (x, y) = (f64::from(*a), f64::from(*b));
            *a = (x * cos - y * sin) as f32;
            *b = (y * cos + x * sin) as f32;
        }
    }
}

/// Angle in [−π, π): the wrapped fraction of a turn, read as signed.
fn angle(position: u32, hi: u32, lo: u32) -> f64 {
    let carry = (u64::from(position) * u64::from(lo)) >> 32;
    let turn = position.wrapping_mul(hi).wrapping_add(carry as u32);
    f64::from(turn as i32) * (TAU / 2f64.powi(32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    /// The textbook formula in f64, with no reduction but that of `cos` and `sin`.
    fn direct(head: &[f32], theta: f64, position: u32) -> Vec<f32> {
        let half = head.len() / 2;
        let mut out = vec![0.0; head.len()];
        for i in 0..half {
            let angle = f64::from(position) / theta.powf(i as f64 / half as f64);
            let (a, b) = (f64::from(head[i]), f64::from(head[i + half]));
            out[i] = (a * angle.cos() - b * angle.sin()) as f32;
            out[i + half] = (b * angle.cos() + a * angle.sin()) as f32;
        }
        out
    }

    #[test]
    fn the_direct_formula_up_to_a_million() {
        let mut random = Random::new(7);
        for (theta, dim) in [(10_000.0, 64), (10_000.0, 16), (5e5, 128), (1.0, 2)] {
            let table = rotary_table(theta, dim);
            for position in [0, 1, 2, 3, 1000, 65_537, 999_999, 1_000_000] {
                let head = random.values(dim);
                let mut turned = head.clone();
                rotary(&mut turned, 1, dim, &table, position);
                assert_close(&turned, &direct(&head, theta, position), 1e-7);
            }
        }
    }

    #[test]
    fn the_first_frequency_is_one_radian() {
        // 1/(2π) = 0x0.28BE60DB_9391054A…; f64 holds 53 bits of it.
        let table = rotary_table(10_000.0, 4);
        assert_eq!(table[0], 0x28BE_60DB);
        assert!(table[1].abs_diff(0x9391_054A) < 1 << 12, "{:x}", table[1]);
    }

    #[test]
    fn a_quarter_turn_swaps_the_halves() {
        // A table by hand: a quarter of a turn per position.
        let table = [1 << 30, 0];
        for (position, expected) in [(1, [-2., 1.]), (2, [-1., -2.]), (3, [2., -1.]), (4, [1., 2.])] {
            let mut row = [1., 2.];
            rotary(&mut row, 1, 2, &table, position);
            assert_close(&row, &expected, 1e-9);
        }
    }

    #[test]
    fn the_low_word_carries() {
        // 2³¹/2⁶⁴ of a turn per position: only the low word is set, and 2³¹ positions make a quarter turn.
        let mut row = [1., 2.];
        rotary(&mut row, 1, 2, &[0, 1 << 31], 1 << 31);
        assert_close(&row, &[-2., 1.], 1e-9);
    }

    #[test]
    fn position_zero_is_the_identity_and_later_heads_are_untouched() {
        let table = rotary_table(10_000.0, 4);
        let row: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let mut turned = row.clone();
        rotary(&mut turned, 3, 4, &table, 0);
        assert_eq!(turned, row);
        rotary(&mut turned, 2, 4, &table, 5);
        assert_eq!(turned[8..], row[8..]);
        let mut single = row[4..8].to_vec();
        rotary(&mut single, 1, 4, &table, 5);
        assert_eq!(turned[4..8], single);
    }
}
