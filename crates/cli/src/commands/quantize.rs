//! `taipan quantize`: a quantised copy of a model folder.

use std::time::Instant;

use serde::Serialize;
use taipan::{Device, Quant, WeightDtype, quantize_folder};

use crate::failure::{Failure, Result};
use crate::fetch::{self, Use};
use crate::progress::{Progress, Unit};
use crate::settings::Quantize;
use crate::{interrupt, output};

#[derive(Serialize)]
struct Report {
    input: String,
    output: String,
    dtype: &'static str,
    /// Matrices that were quantised.
    matrices: usize,
    /// Tensors that were copied as they are.
    copied: usize,
    /// Bytes of all weights, as they were stored and as they are.
    original_bytes: u64,
    bytes: u64,
    seconds: f64,
}

/// Makes the copy, which appears when it is complete.
pub(super) async fn run(task: Quantize) -> Result<()> {
    interrupt::install();
    let dtype = match task.quant {
        Quant::Q8 => WeightDtype::Q8,
        Quant::Q4 => WeightDtype::Q4,
    };
    // What is quantised is the original, and what is to run is the copy.
    let input = fetch::folder(&task.input, &Use { dtype, ..Use::anyhow(&Device::cpu(), task.yes) })?;
    let start = Instant::now();
    let progress = Progress::new("quantising", Unit::Numbers);
    let progress: taipan::Progress = Box::new(move |done, total| progress.set(done, total));
    let copy = quantize_folder(&input, &task.output, task.quant, Some(&progress));
    let done = interrupt::unless(copy).await.ok_or(Failure::Interrupted)??;
    drop(progress);
    let report = Report {
        input: task.input.display().to_string(),
        output: task.output.display().to_string(),
        dtype: task.quant.name(),
        matrices: done.matrices,
        copied: done.copied,
        original_bytes: done.original_bytes,
        bytes: done.bytes,
        seconds: start.elapsed().as_secs_f64(),
    };
    if task.json { output::json(&report) } else { output::line(&report.table()) }
}

impl Report {
    fn table(&self) -> String {
        output::pairs(&[
            ("written", self.output.clone()),
            ("matrices", format!("{} as {}, {} tensors as they were", self.matrices, self.dtype, self.copied)),
            ("weights", format!("{}, before {}", output::bytes(self.bytes), output::bytes(self.original_bytes))),
        ])
    }
}
