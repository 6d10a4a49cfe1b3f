//! What is said about a list of samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Robust and classical statistics of samples, in the samples' unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Middle value.
    pub median: f64,
    /// Median absolute deviation from the median.
    pub mad: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, of the sample (n − 1).
    pub stddev: f64,
    /// 5th percentile.
    pub p05: f64,
    /// 95th percentile.
    pub p95: f64,
    /// How much later samples differ from earlier ones: slope of a line through them (Theil and Sen's), times their
    /// number, in percent of the median.
    pub drift_pct: f64,
    /// Indices of samples farther from the median than five scaled MADs.
    pub outliers: Vec<usize>,
}

/// A percentile of sorted numbers, interpolated between neighbours.
#[must_use]
pub fn percentile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = p * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Middle value.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    percentile(&sorted(samples), 0.5)
}

/// In ascending order.
#[must_use]
pub fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

impl Summary {
    /// Statistics of at least one sample.
    #[must_use]
    pub fn of(samples: &[f64]) -> Self {
        let ordered = sorted(samples);
        let n = samples.len() as f64;
        let median = percentile(&ordered, 0.5);
        let deviations: Vec<f64> = samples.iter().map(|x| (x - median).abs()).collect();
        let mad = self::median(&deviations);
        let mean = samples.iter().sum::<f64>() / n;
        let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
        // 1.4826 MADs are a standard deviation where samples are normal.
        let limit = (5.0 * 1.4826 * mad).max(1e-9 * median.abs());
        Self {
            median,
            mad,
            mean,
            stddev: if samples.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 },
            p05: percentile(&ordered, 0.05),
            p95: percentile(&ordered, 0.95),
            drift_pct: 100.0 * slope(samples) * (n - 1.0) / median,
            outliers: (0..samples.len()).filter(|i| deviations[*i] > limit).collect(),
        }
    }
}

/// Median of the slopes of all pairs: one bad sample does not move it. Of very many samples, evenly spread ones.
fn slope(samples: &[f64]) -> f64 {
    let step = samples.len().div_ceil(200).max(1);
    let at: Vec<usize> = (0..samples.len()).step_by(step).collect();
    let pairs = at.iter().enumerate().flat_map(|(k, i)| at[k + 1..].iter().map(move |j| (*i, *j)));
    let slopes: Vec<f64> = pairs.map(|(i, j)| (samples[j] - samples[i]) / (j - i) as f64).collect();
    if slopes.is_empty() { 0.0 } else { median(&slopes) }
}

/// How much faster the second of interleaved pairs is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// Median of the pairs' ratios.
    pub ratio: f64,
    /// Lower end of the 95 % interval (bootstrap of the median, always with the same draws).
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Ratio {
    /// `b / a` over pairs.
    #[must_use]
    pub fn of(a: &[f64], b: &[f64]) -> Self {
        let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| b / a).collect();
        let mut counter = 0;
        let mut draw = || {
            counter += 1;
            (taipan_reference::uniform(1, counter) * ratios.len() as f32) as usize
        };
        let resampled: Vec<f64> =
            (0..1000).map(|_| median(&(0..ratios.len()).map(|_| ratios[draw()]).collect::<Vec<_>>())).collect();
        let ordered = sorted(&resampled);
        Self { ratio: median(&ratios), low: percentile(&ordered, 0.025), high: percentile(&ordered, 0.975) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn numbers_computed_by_hand() {
        let s = Summary::of(&[1.0, 2.0, 3.0, 4.0, 10.0]);
        near(s.median, 3.0);
        near(s.mad, 1.0);
        near(s.mean, 4.0);
        near(s.stddev, 12.5f64.sqrt());
        near(s.p05, 1.2);
        near(s.p95, 8.8);
        assert!(s.outliers.is_empty());
        // Slopes of all pairs: 1 (five of them), 4/3 … 6; the median of the ten is 1.25 steps to the next sample.
        assert!(s.drift_pct > 100.0);
        near(Summary::of(&[7.0]).stddev, 0.0);
        near(Summary::of(&[7.0]).drift_pct, 0.0);
    }

    #[test]
    fn an_outlier_is_flagged_and_moves_neither_median_nor_drift() {
        let mut samples: Vec<f64> = (0..20).map(|i| 100.0 + f64::from(i % 3)).collect();
        samples[19] = 1000.0;
        let s = Summary::of(&samples);
        assert_eq!(s.outliers, [19]);
        assert!(s.drift_pct.abs() < 1.0, "{}", s.drift_pct);
        near(s.median, 101.0);
    }

    #[test]
    fn drift_is_the_whole_way_in_percent() {
        let samples: Vec<f64> = (0..11).map(|i| 95.0 + f64::from(i)).collect();
        near(Summary::of(&samples).drift_pct, 10.0);
    }

    #[test]
    fn a_ratio_holds_through_noise_that_pairs_share() {
        let a: Vec<f64> = (1..=9).map(f64::from).collect();
        let b: Vec<f64> = a.iter().map(|x| 2.0 * x).collect();
        let r = Ratio::of(&a, &b);
        near(r.ratio, 2.0);
        near(r.low, 2.0);
        near(r.high, 2.0);
        let noisy = Ratio::of(&[1.0; 5], &[1.0, 1.1, 1.2, 1.3, 1.4]);
        assert!(noisy.low < noisy.ratio && noisy.ratio < noisy.high);
    }
}
