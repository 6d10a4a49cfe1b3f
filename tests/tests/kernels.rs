//! Every kernel case on the GPU, with what the adapter offers and at base tier.

use pollster::block_on;
use taipan::Device;
use taipan_tests::device;

fn run_all(device: &Device, seed: u64) {
    let cases = taipan_cases::all(seed);
    assert!(cases.len() > 250, "{} cases", cases.len());
    let reports: Vec<_> = cases.iter().map(|case| block_on(taipan_cases::run(case, device)).unwrap()).collect();
    let wrong = taipan_cases::complaints(&reports);
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_kernel_agrees_with_its_twin() {
    run_all(&device::gpu(), 1);
}

#[test]
fn the_cpu_device_agrees_with_the_plain_twins() {
    run_all(&Device::cpu(), 3);
}

#[test]
fn every_kernel_agrees_with_its_twin_at_base_tier() {
    run_all(&device::base_tier(), 2);
}
