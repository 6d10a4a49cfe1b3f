//! A progress bar for what takes longer than a second, on a terminal only.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What takes less is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Tokens,
    Bytes,
    Numbers,
    Cases,
}

/// Progress of one piece of work. Nothing is drawn unless stderr is a terminal; the bar goes when this is dropped.
pub(crate) struct Progress {
    what: &'static str,
    unit: Unit,
    start: Instant,
    on_terminal: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new(what: &'static str, unit: Unit) -> Progress {
        let on_terminal = std::io::stderr().is_terminal();
        Progress { what, unit, start: Instant::now(), on_terminal, bar: Mutex::new(None) }
    }

    /// How much is done, of how much.
    pub(crate) fn set(&self, done: u64, total: u64) {
        if !self.on_terminal || self.start.elapsed() < PATIENCE {
            return;
        }
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bar.get_or_insert_with(|| self.draw());
        bar.set_length(total);
        bar.set_position(done);
    }

    fn draw(&self) -> ProgressBar {
        let numbers = match self.unit {
            Unit::Tokens => "{human_pos}/{human_len} tokens, {per_sec}",
            Unit::Bytes => "{binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}",
            Unit::Numbers => "{human_pos}/{human_len}, {per_sec}",
            Unit::Cases => "{human_pos}/{human_len}",
        };
        let template = format!("{{msg}} [{{bar:30}}] {numbers}, {{eta}} left");
        let style = ProgressStyle::with_template(&template).expect("the template is one of a few constants");
        ProgressBar::no_length().with_style(style.progress_chars("=> ")).with_message(self.what).with_elapsed(PATIENCE)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let bar = self.bar.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = bar.take() {
            bar.finish_and_clear();
        }
    }
}
