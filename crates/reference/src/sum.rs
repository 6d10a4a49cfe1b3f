//! f64 sums over f32 rows, in eight lanes so that the compiler can vectorise them.
//!
//! A product of two f32 is exact in f64, so `dot` rounds only in its additions, at 2⁻⁵³.

const LANES: usize = 8;

/// Σ a·b.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "dot: rows of different length");
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f64; LANES];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f64::from(x) * f64::from(y);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    lanes.iter().sum::<f64>() + rest
}

/// acc ← acc + weight·x.
pub(crate) fn add_scaled(acc: &mut [f64], weight: f64, x: &[f32]) {
    assert_eq!(acc.len(), x.len(), "add_scaled: rows of different length");
    for (a, &x) in acc.iter_mut().zip(x) {
        *a += weight * f64::from(x);
    }
}

/// One step of the state recurrence over a row: `row ← decay·row + input·b`, rounded once to f32; returns Σ row·c,
/// taken before that rounding.
pub(crate) fn decay_add_dot(row: &mut [f32], decay: f64, input: f64, b: &[f64], c: &[f64]) -> f64 {
    assert!(row.len() == b.len() && row.len() == c.len(), "decay_add_dot: rows of different length");
    let (row_blocks, row_rest) = row.as_chunks_mut::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let (c_blocks, c_rest) = c.as_chunks::<LANES>();
    let mut lanes = [0.0f64; LANES];
    for ((row, b), c) in row_blocks.iter_mut().zip(b_blocks).zip(c_blocks) {
        for (((s, lane), &b), &c) in row.iter_mut().zip(&mut lanes).zip(b).zip(c) {
            let next = decay * f64::from(*s) + input * b;
            *s = next as f32;
            *lane += next * c;
        }
    }
    let mut rest = 0.0;
    for ((s, &b), &c) in row_rest.iter_mut().zip(b_rest).zip(c_rest) {
        let next = decay * f64::from(*s) + input * b;
        *s = next as f32;
        rest += next * c;
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    #[test]
    fn dot_is_exact_where_f32_would_lose_the_one() {
        // Lengths around the lane count; the two large products cancel.
        for n in 3..40 {
            let mut a = vec![0.0; n];
            (a[0], a[n / 2], a[n - 1]) = (1e8, 1.0, -1e8);
            assert_eq!(dot(&a, &vec![1.0; n]), 1.0, "n = {n}");
        }
    }

    #[test]
    fn dot_counts_every_element_once() {
        for n in 0..40u32 {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let expected: u32 = (0..n).map(|i| i * i).sum();
            assert_eq!(dot(&a, &a), f64::from(expected));
        }
    }

    #[test]
    fn add_scaled_adds() {
        let mut acc = vec![1.0, 2.0, 3.0];
        add_scaled(&mut acc, -2.0, &[1.0, 0.5, 4.0]);
        assert_eq!(acc, [-1.0, 1.0, -5.0]);
    }

    #[test]
    fn decay_add_dot_matches_its_formula_at_any_length() {
        let mut random = Random::new(1);
        for n in [1, 7, 8, 9, 16, 31] {
            let (mut row, b, c) = (random.values(n), random.values(n), random.values(n));
            let next: Vec<f32> = row.iter().zip(&b).map(|(s, b)| 0.5 * s + 3.0 * b).collect();
            let read: f32 = next.iter().zip(&c).map(|(s, c)| s * c).sum();
            let widen = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let got = decay_add_dot(&mut row, 0.5, 3.0, &widen(&b), &widen(&c));
            assert_close(&row, &next, 1e-6);
            assert_close(&[got as f32], &[read], 1e-5);
        }
    }
}
