//! Every kernel case on the GPU, with what the adapter offers and at base tier.

use pollster::block_on;
use taipan::Device;
use taipan_kernels::TUNABLES;
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

/// Every value that a table may give a device, on the kernels that it touches.
#[test]
fn tuning_changes_no_result() {
    for tunable in TUNABLES {
        let cases = taipan_cases::all(4).into_iter().filter(|c| tunable.kernels.contains(&c.kernel));
        let cases: Vec<_> = cases.collect();
        assert!(!cases.is_empty(), "{}", tunable.name);
        for value in tunable.values {
            let device = device::tuned(&[(tunable.name, *value)]);
            assert_eq!(device.as_gpu().unwrap().tuning().get(tunable), *value);
            for case in &cases {
                let report = block_on(taipan_cases::run(case, &device)).unwrap();
                assert!(report.ok, "{} = {value}: {}: {:?}", tunable.name, case.shape, report.detail);
            }
        }
    }
}
