//! `taipan validate --kernels`: every kernel against its CPU twin.

use taipan::Device;
use taipan_cases::Report;

use crate::failure::{Failure, Result};
use crate::progress::{Progress, Unit};
use crate::{interrupt, output};

/// Inputs are the same in every run, so that a failure can be looked into.
const SEED: u64 = 1;

/// Runs all cases on an adapter.
pub(super) async fn run(device: &Device, json: bool) -> Result<()> {
    let cases: Vec<_> = taipan_cases::all(SEED).into_iter().chain(taipan_cases::blocks(SEED)).collect();
    let progress = Progress::new("validating", Unit::Cases);
    let mut reports = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        progress.set(i as u64, cases.len() as u64);
        let Some(report) = interrupt::unless(taipan_cases::run(case, device)).await else { break };
        reports.push(report?);
    }
    drop(progress);
    let interrupted = reports.len() < cases.len();
    let differs = reports.iter().any(|report| !report.ok);
    // A kernel without a case would be a list that was lost, not a success.
    let passed = !interrupted && taipan_cases::complaints(&reports).is_empty();
    if json {
        output::json(&serde_json::json!({
            "device": device.description(),
            "kernels": reports,
            "passed": passed,
            "interrupted": interrupted,
        }))?;
    } else {
        print_table(device, &reports, cases.len())?;
    }
    match (passed, interrupted && !differs) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::Interrupted),
        (false, false) => Err(Failure::Mismatch),
    }
}

fn print_table(device: &Device, reports: &[Report], planned: usize) -> Result<()> {
    let rows: Vec<Vec<String>> = reports.chunk_by(|a, b| a.kernel == b.kernel).map(row).collect();
    output::line(&output::table(&["kernel", "cases", "worst", "allowed", "result"], &[1, 2, 3], &rows))?;
    for report in reports.iter().filter(|r| !r.ok) {
        let detail = report.detail.as_deref().unwrap_or("out of tolerance");
        output::line(&format!("\n{} ({}, seed {}): {detail}", report.kernel, report.shape, report.seed))?;
    }
    let failed = reports.iter().filter(|r| !r.ok).count();
    let verdict = if failed == 0 { "all match".to_owned() } else { format!("{failed} DO NOT MATCH") };
    let done = if reports.len() < planned { format!("{} of {planned}", reports.len()) } else { planned.to_string() };
    output::line(&format!("\n{} against the CPU twins: {done} cases, {verdict}", device.description()))
}

/// A line for all cases of a kernel.
fn row(reports: &[Report]) -> Vec<String> {
    let worst = reports.iter().map(|r| r.worst).fold(0.0, f64::max);
    let tolerance = reports[0].tolerance;
    vec![
        reports[0].kernel.to_owned(),
        reports.len().to_string(),
        format!("{worst:.1e}"),
        format!("{tolerance:.1e}"),
        if reports.iter().all(|r| r.ok) { "ok" } else { "MISMATCH" }.to_owned(),
    ]
}
