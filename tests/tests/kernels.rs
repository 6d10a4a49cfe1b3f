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

/// The words that each case of a kernel leaves on a device.
fn words(device: &Device, kernel: &str) -> Vec<taipan_cases::Outputs> {
    let cases = taipan_cases::all(4).into_iter().filter(|case| case.kernel == kernel);
    let gpu = device.as_gpu().unwrap();
    cases.map(|case| block_on(taipan_cases::on_gpu(&case, gpu, None)).unwrap()).collect()
}

#[test]
fn subgroups_change_no_bit() {
    let permutations = taipan_cases::permutations();
    let with = |name: &str| permutations.iter().any(|p| p.decl.name == name && p.decl.uses_lanes());
    let kernels: Vec<_> = taipan_cases::kernels().into_iter().filter(|name| with(name)).collect();
    assert_eq!(kernels.len(), 3, "{kernels:?}");
    // Lanes share a row, of two or of eight at a time: with a row to itself, as on a software adapter, none has to do with others.
    for values in [&device::AS_A_CARD[..], &device::EIGHT_SHARED] {
        let (plain, grouped) = (device::tuned(values), device::tuned_with_subgroups(values));
        assert_eq!(plain.as_gpu().unwrap().subgroups(), None);
        let fewest = grouped.as_gpu().unwrap().subgroups();
        assert!(fewest.is_some_and(|lanes| lanes >= 4), "the adapter has subgroups as they are expected: {fewest:?}");
        for kernel in &kernels {
            let (expected, found) = (words(&plain, kernel), words(&grouped, kernel));
            assert!(expected.len() > 3, "{kernel}: {} cases", expected.len());
            assert_eq!(found, expected, "{kernel}");
        }
    }
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
