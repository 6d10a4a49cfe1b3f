//! Seeded inputs and comparisons for the tests.

/// A small seeded generator (splitmix64), so that a failing case can be run again.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    pub(crate) fn between(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * ((self.word() >> 40) as f32 / 16_777_216.0)
    }

    /// `n` values in [−1, 1).
    pub(crate) fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.between(-1.0, 1.0)).collect()
    }
}

/// Fails unless every |a − b| ≤ tolerance·(1 + |b|); a NaN fails.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "different lengths");
    for (i, (&a, &b)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(a) - f64::from(b)).abs() / (1.0 + f64::from(b).abs());
        let close = error <= tolerance;
        assert!(close, "[{i}] got {a}, expected {b}: error {error:e} > {tolerance:e}");
    }
}
