//! How many steps of decoding go in one submission.

/// Steps that are short go together, those that a reader would have to wait for do not: as many as take [`Pace::TOGETHER_MS`],
/// by the clock.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the last steps came back.
    last_ms: Option<f64>,
    /// Steps that go together.
    steps: Option<u32>,
}

impl Pace {
    /// Steps at most.
    pub(super) const MOST: u32 = 8;

    /// Time for which tokens may be held up to come together: no reader sees it, and it is many times what a GPU is idle
    /// between two submissions.
    const TOGETHER_MS: f64 = 7.0;

    /// So many steps go together until two submissions have come back.
    #[cfg(test)]
    pub(super) fn of(steps: u32) -> Self {
        Self { last_ms: None, steps: Some(steps) }
    }

    /// Steps to submit next.
    pub(super) fn steps(&self) -> u32 {
        self.steps.unwrap_or(1)
    }

    /// So many steps have come back. Time since the last ones is what they took, or longer; so that one wrong measure, by a
    /// clock of whole milliseconds say, does no harm, their number grows by half as much again or by one at a time.
    pub(super) fn finished(&mut self, steps: u32, now_ms: f64) {
        if let Some(last) = self.last_ms.replace(now_ms) {
            let fit = Self::TOGETHER_MS * f64::from(steps) / (now_ms - last).max(f64::MIN_POSITIVE);
            let most = (steps + steps.div_ceil(2)).min(Self::MOST);
            self.steps = Some((fit as u32).clamp(1, most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of each submission, where a step takes so long.
    fn paces(step_ms: f64) -> Vec<u32> {
        let (mut pace, mut now) = (Pace::default(), 7.0);
        (0..10)
            .map(|_| {
                let steps = pace.steps();
                now += step_ms * f64::from(steps);
                pace.finished(steps, now);
                steps
            })
            .collect()
    }

    #[test]
    fn short_steps_go_together() {
        assert_eq!(paces(0.1), [1, 1, 2, 3, 5, 8, 8, 8, 8, 8]);
        assert_eq!(paces(0.0), paces(0.1), "a clock may stand still");
        assert_eq!(paces(1.6), [1, 1, 2, 3, 4, 4, 4, 4, 4, 4]);
        assert_eq!(paces(4.0), [1; 10]);
        let mut pace = Pace { last_ms: Some(0.0), steps: Some(8) };
        pace.finished(8, 800.0);
        assert_eq!(pace.steps(), 1, "a device that has become slow");
    }
}
