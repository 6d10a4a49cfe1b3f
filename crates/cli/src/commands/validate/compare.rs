//! Distances between results. Whatever cannot be compared is infinitely far apart.

/// Largest |a − b| / (1 + |b|). Infinite where the lengths differ, there is nothing to compare, or a number is not
/// finite.
pub(super) fn distance(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() || found.is_empty() {
        return f64::INFINITY;
    }
    let one = |(a, b): (&f32, &f32)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        let distance = (a - b).abs() / (1.0 + b.abs());
        if distance.is_finite() { distance } else { f64::INFINITY }
    };
    found.iter().zip(expected).map(one).fold(0.0, f64::max)
}

/// Number of elements that differ. Infinite where the lengths differ or there is nothing to compare.
pub(super) fn differing<T: PartialEq>(found: &[T], expected: &[T]) -> f64 {
    if found.len() != expected.len() || found.is_empty() {
        return f64::INFINITY;
    }
    found.iter().zip(expected).filter(|(a, b)| a != b).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_relative_to_large_numbers_only() {
        assert_eq!(distance(&[1.0, 3.0], &[1.0, 1.0]), 1.0);
        assert_eq!(distance(&[0.0], &[0.25]), 0.2);
    }

    #[test]
    fn nothing_unusual_passes() {
        for (a, b) in [
            (&[][..], &[][..]),
            (&[1.0][..], &[1.0, 1.0][..]),
            (&[f32::NAN][..], &[1.0][..]),
            (&[1.0][..], &[f32::NAN][..]),
            (&[f32::NAN][..], &[f32::NAN][..]),
            (&[f32::INFINITY][..], &[f32::INFINITY][..]),
            (&[1.0][..], &[f32::INFINITY][..]),
            (&[f32::NAN, 1.0][..], &[1.0, 1.0][..]),
        ] {
            assert_eq!(distance(a, b), f64::INFINITY, "{a:?} {b:?}");
        }
    }

    #[test]
    fn differing_counts() {
        assert_eq!(differing(&[1, 0, 1], &[1, 1, 1]), 1.0);
        assert_eq!(differing(&[1, 1], &[1, 1]), 0.0);
        assert_eq!(differing::<u8>(&[], &[]), f64::INFINITY);
        assert_eq!(differing(&[1], &[1, 2]), f64::INFINITY);
    }
}
