//! The harness must be able to fail: each way of being wrong is tried and must be noticed.

use pollster::block_on;
use taipan_cases::{Case, Outputs, compare, expected, on_device};
use taipan_tests::device;

fn case(kernel: &str) -> Case {
    let mut cases = taipan_cases::all(5).into_iter();
    cases.rfind(|c| c.kernel == kernel).unwrap_or_else(|| panic!("no case of {kernel}"))
}

/// Every kernel's outputs with `damage` applied must be refused, and untouched ones accepted.
fn must_notice(what: &str, damage: impl Fn(&mut Outputs)) {
    let mut kernels: Vec<&str> = taipan_cases::all(5).iter().map(|c| c.kernel).collect();
    kernels.dedup();
    assert_eq!(kernels.len(), 20);
    for kernel in kernels {
        let case = case(kernel);
        let good = expected(&case);
        assert!(compare(&case, &good, &good).ok, "{kernel}: untouched outputs are accepted");
        let mut bad = good.clone();
        damage(&mut bad);
        assert!(!compare(&case, &bad, &good).ok, "{kernel}: {what} goes unnoticed");
    }
}

#[test]
fn a_changed_element_is_noticed() {
    must_notice("a changed element", |out| {
        let last = out.last_mut().unwrap();
        let at = last.len() / 2;
        // For a float two exponent steps, for an integer a large change.
        last[at] = last[at].wrapping_add(1 << 24);
        out[0][0] ^= 0x0140_0000;
    });
}

#[test]
fn a_nan_is_noticed() {
    must_notice("a NaN", |out| out[0][0] = f32::NAN.to_bits());
}

#[test]
fn a_truncated_buffer_is_noticed() {
    must_notice("a truncated buffer", |out| {
        out[0].pop();
    });
    must_notice("an empty buffer", |out| out[0].clear());
    must_notice("a missing buffer", |out| {
        out.pop();
    });
}

#[test]
fn a_wrong_kernel_is_noticed_through_the_whole_path() {
    let device = device::gpu();
    // The same program with other inputs stands for a kernel that computes something else.
    for kernel in ["matmul", "chunk_scan", "window_attention", "mixer_update", "rms_norm"] {
        let right = case(kernel);
        let wrong = taipan_cases::all(6).into_iter().rfind(|c| c.kernel == kernel && c.shape == right.shape).unwrap();
        let found = block_on(on_device(&wrong, &device)).unwrap();
        assert!(compare(&wrong, &found, &expected(&wrong)).ok, "{kernel}: its own twin accepts it");
        assert!(!compare(&right, &found, &expected(&right)).ok, "{kernel}: a wrong kernel goes unnoticed");
    }
}

#[test]
fn tolerances_are_tight() {
    for case in taipan_cases::all(5) {
        assert!(taipan_cases::tolerance(case.kernel) <= 5e-4, "{}", case.kernel);
    }
}
