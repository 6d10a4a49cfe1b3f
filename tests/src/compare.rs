//! Comparison that cannot be passed by accident: lengths must match and not be zero, NaN fails.

/// Largest `|a − b| / (1 + |b|)`, and where.
///
/// # Panics
/// If the lengths differ or are zero.
#[must_use]
pub fn worst(a: &[f32], b: &[f32]) -> (f64, usize) {
    assert_eq!(a.len(), b.len(), "compared lengths");
    assert!(!a.is_empty(), "nothing to compare");
    let error = |(a, b): (&f32, &f32)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        let e = (a - b).abs() / (1.0 + b.abs());
        if e.is_nan() { f64::INFINITY } else { e }
    };
    let mut worst = (0.0, 0);
    for (i, pair) in a.iter().zip(b).enumerate() {
        let e = error(pair);
        if e > worst.0 {
            worst = (e, i);
        }
    }
    worst
}

/// Asserts that every element is within `tolerance`.
///
/// # Panics
/// If one is not.
pub fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f64) {
    let (error, at) = worst(a, b);
    assert!(error <= tolerance, "{what}: {error:.2e} > {tolerance:.0e} at {at}: {} against {}", a[at], b[at]);
}
