//! Every kernel case on the GPU, with what the adapter offers and at base tier.

use pollster::block_on;
use taipan::Device;
use taipan_tests::device;

fn run_all(device: &Device, seed: u64) {
    let cases = taipan_cases::all(seed);
    assert!(cases.len() > 250, "{} cases", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let report = block_on(taipan_cases::run(case, device)).unwrap();
        if !report.ok {
            let detail = report.detail.unwrap_or_default();
            failures.push(format!("{} ({}), seed {}: {detail}", report.kernel, report.shape, report.seed));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn every_kernel_agrees_with_its_twin() {
    run_all(&device::gpu(), 1);
}

#[test]
fn every_kernel_agrees_with_its_twin_at_base_tier() {
    run_all(&device::base_tier(), 2);
}
