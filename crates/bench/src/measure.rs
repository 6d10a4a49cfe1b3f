//! Repetitions of a row: as many as the plan asks for, of one option set or of two in turn.

use std::time::Duration;

use taipan::{Model, Result, Session};
use web_time::Instant;

use crate::workload::{Repetition, Test, prepare, repeat};

/// How long a row is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Repetitions at least.
    pub repetitions: usize,
    /// Measured time at least.
    pub min_time: Duration,
    /// Time of the whole row at most, once there is one repetition.
    pub max_time: Duration,
    /// Run a repetition that does not count first.
    pub warmup: bool,
    /// Wait before each row, so that a device can cool down.
    pub delay: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            repetitions: 5,
            min_time: Duration::from_secs(2),
            max_time: Duration::from_secs(120),
            warmup: true,
            delay: Duration::ZERO,
        }
    }
}

impl Plan {
    /// Whether there is enough: `Some(true)` if the time limit is why.
    fn done(&self, repetitions: usize, measured: Duration, row: Duration) -> Option<bool> {
        if repetitions >= self.repetitions && measured >= self.min_time {
            return Some(false);
        }
        (repetitions > 0 && row >= self.max_time).then_some(true)
    }
}

/// The repetitions of one option set.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// In order.
    pub repetitions: Vec<Repetition>,
    /// The time limit ended the row early.
    pub cut_short: bool,
}

impl Samples {
    /// Nanoseconds of each.
    #[must_use]
    pub fn ns(&self) -> Vec<f64> {
        self.repetitions.iter().map(|r| r.ns).collect()
    }
}

/// Measures a row on each model. With several, a round runs each of them once and every other round goes backwards, so
/// that what changes with time falls on all of them alike. `each` hears of every round.
///
/// # Errors
/// Device errors.
pub async fn row(models: &[Model], test: &Test, plan: &Plan, mut each: impl FnMut(usize)) -> Result<Vec<Samples>> {
    let begun = Instant::now();
    let mut starts: Vec<Option<Session>> = Vec::new();
    for model in models {
        starts.push(prepare(model, test).await?);
    }
    if plan.warmup {
        for (model, start) in models.iter().zip(&mut starts) {
            repeat(model, test, start.as_mut()).await?;
        }
    }
    let mut all = vec![Samples::default(); models.len()];
    let mut measured = Duration::ZERO;
    for round in 0.. {
        let forwards: Vec<usize> = (0..models.len()).collect();
        let order = if round % 2 == 0 { forwards } else { forwards.into_iter().rev().collect() };
        for i in order {
            let repetition = repeat(&models[i], test, starts[i].as_mut()).await?;
            measured += Duration::from_nanos(repetition.ns as u64) / models.len() as u32;
            all[i].repetitions.push(repetition);
        }
        each(round + 1);
        if let Some(cut_short) = plan.done(round + 1, measured, begun.elapsed()) {
            all.iter_mut().for_each(|s| s.cut_short = cut_short);
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_ends_with_both_enough_repetitions_and_enough_time_or_at_the_limit() {
        let plan = Plan::default();
        let s = Duration::from_secs;
        assert_eq!(plan.done(4, s(50), s(60)), None);
        assert_eq!(plan.done(5, s(1), s(60)), None);
        assert_eq!(plan.done(5, s(2), s(60)), Some(false));
        assert_eq!(plan.done(1, s(2), s(120)), Some(true));
        assert_eq!(plan.done(0, s(0), s(500)), None);
    }
}
