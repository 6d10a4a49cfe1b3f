//! The harness must be able to fail: each way of being wrong is tried and must be noticed.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pollster::block_on;
use taipan::Device;
use taipan_cases::{Case, Outputs, compare, complaints, elements, expected, on_gpu, run, tolerance};
use taipan_kernels::{Decl, Element, TUNABLES, WeightFormat};
use taipan_tests::device;
use taipan_tests::mutate::{self, Mutant};

const SEED: u64 = 5;

fn cases_of(kernel: &str) -> Vec<Case> {
    taipan_cases::all(SEED).into_iter().filter(|c| c.kernel == kernel).collect()
}

fn last_case(kernel: &str) -> Case {
    cases_of(kernel).pop().unwrap_or_else(|| panic!("no case of {kernel}"))
}

/// Every kernel's outputs with `damage` applied must be refused, and untouched ones accepted. Where there is nothing to
/// damage, `damage` says so.
fn must_notice(what: &str, damage: impl Fn(&Case, &mut Outputs) -> bool) -> usize {
    let kernels = taipan_cases::kernels();
    assert_eq!(kernels.len(), 27);
    let mut damaged = 0;
    for kernel in kernels {
        let case = last_case(kernel);
        let good = expected(&case);
        assert!(compare(&case, &good, &good).ok, "{kernel}: untouched outputs are accepted");
        let mut bad = good.clone();
        if damage(&case, &mut bad) {
            damaged += 1;
            assert!(!compare(&case, &bad, &good).ok, "{kernel}: {what} goes unnoticed");
        }
    }
    damaged
}

/// Places of floats, or of integers, in every output: the first, one in the middle, the last.
fn places(case: &Case, outputs: &Outputs, wanted: Element) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for output in 0..outputs.len() {
        let elements = elements(case, output);
        let all: Vec<usize> = (0..elements.len()).filter(|at| elements[*at] == wanted).collect();
        let three = [all.first(), all.get(all.len() / 2), all.last()];
        found.extend(three.into_iter().flatten().map(|at| (output, *at)));
    }
    found
}

/// The outputs with one float moved by `share` of what is allowed.
fn moved(case: &Case, good: &Outputs, (output, at): (usize, usize), share: f64) -> Outputs {
    let mut bad = good.clone();
    let value = f64::from(f32::from_bits(good[output][at]));
    let by = share * tolerance(case.kernel) * (1.0 + value.abs());
    bad[output][at] = ((value + by) as f32).to_bits();
    bad
}

#[test]
fn one_element_off_by_little_more_than_allowed_is_noticed() {
    let mut rounded = 0;
    for kernel in taipan_cases::kernels() {
        let case = last_case(kernel);
        let good = expected(&case);
        for place in places(&case, &good, Element::F32) {
            if tolerance(kernel) > 0.0 {
                rounded += 1;
                for sign in [-1.0, 1.0] {
                    let bad = compare(&case, &moved(&case, &good, place, 3.0 * sign), &good);
                    assert!(!bad.ok, "{kernel}: three times the tolerance at {place:?} goes unnoticed");
                    assert!(bad.detail.is_some_and(|d| d.contains("1 of")), "{kernel}: one element disagrees");
                    let fine = compare(&case, &moved(&case, &good, place, sign / 3.0), &good);
                    assert!(fine.ok, "{kernel}: a third of the tolerance at {place:?} is refused: {:?}", fine.detail);
                }
            } else {
                let mut bad = good.clone();
                bad[place.0][place.1] ^= 1;
                assert!(!compare(&case, &bad, &good).ok, "{kernel}: the last bit at {place:?} goes unnoticed");
            }
        }
        for (output, at) in places(&case, &good, Element::U32) {
            let mut bad = good.clone();
            bad[output][at] = bad[output][at].wrapping_add(1);
            assert!(!compare(&case, &bad, &good).ok, "{kernel}: a word off by one at {at} goes unnoticed");
        }
    }
    assert!(rounded >= 3 * 14, "only {rounded} places had a tolerance");
}

#[test]
fn a_nan_is_noticed() {
    let with_floats = must_notice("a NaN", |case, out| {
        let Some((output, at)) = places(case, out, Element::F32).pop() else { return false };
        out[output][at] = f32::NAN.to_bits();
        true
    });
    assert!(with_floats >= 18, "only {with_floats} kernels put out floats");
}

#[test]
fn a_truncated_buffer_is_noticed() {
    must_notice("a truncated buffer", |_, out| out[0].pop().is_some());
    must_notice("an empty buffer", |_, out| {
        out[0].clear();
        true
    });
    must_notice("a missing buffer", |_, out| out.pop().is_some());
}

#[test]
fn an_empty_list_is_noticed() {
    assert_eq!(complaints(&[]).len(), 27);
    let cases: Vec<Case> = taipan_cases::kernels().into_iter().map(last_case).collect();
    let mut reports: Vec<_> = cases.iter().map(|case| block_on(run(case, &Device::cpu())).unwrap()).collect();
    assert_eq!(complaints(&reports), Vec::<String>::new());
    reports[3].ok = false;
    let last = reports.pop().unwrap();
    let found = complaints(&reports);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains(last.kernel) && found[0].contains("no case"), "{found:?}");
}

/// A kernel's cases with what the twin says about them.
struct Proof {
    kernel: &'static str,
    cases: Vec<(Case, Outputs)>,
    /// Devices to run cases on, by their index.
    tries: Vec<(Device, usize)>,
}

impl Proof {
    fn new(kernel: &'static str) -> Self {
        static TUNED: LazyLock<[Device; 2]> =
            LazyLock::new(|| [device::tuned(&device::AS_A_CARD), device::tuned(&device::EIGHT_SHARED)]);
        let cases: Vec<_> = cases_of(kernel).into_iter().map(|case| (expected(&case), case)).collect();
        // As software adapters run it, and as GPUs do.
        let tuned = TUNABLES.iter().any(|t| t.kernels.contains(&kernel)).then(|| TUNED.iter().cloned());
        let devices = std::iter::once(device::gpu()).chain(tuned.into_iter().flatten());
        // The last ones have the most switches on: they notice soonest. A mistake in a body is the same in every format, so one
        // format of a shape comes before the others.
        let mut seen = HashSet::new();
        let (first, others): (Vec<_>, Vec<_>) =
            (0..cases.len()).rev().partition(|case| seen.insert(without_format(&cases[*case].1.shape)));
        let order: Vec<_> = first.into_iter().chain(others).collect();
        let tries = devices.flat_map(|d| order.iter().map(move |case| (d.clone(), *case))).collect();
        Self { kernel, cases: cases.into_iter().map(|(expected, case)| (case, expected)).collect(), tries }
    }

    fn decl(&self) -> &'static Decl {
        self.cases[0].0.permutations().into_iter().map(|p| p.decl).find(|d| d.name == self.kernel).unwrap()
    }

    /// Whether some case fails when the mutant runs in place of the kernel. The one that does is the first to be asked about
    /// the next mutant, which often is of the same part of the kernel.
    fn notices(&mut self, mutant: Mutant) -> bool {
        let found = self.tries.iter().position(|(device, case)| self.fails(device, *case, mutant));
        if let Some(at) = found {
            self.tries[..=at].rotate_right(1);
        }
        found.is_some()
    }

    fn fails(&self, device: &Device, case: usize, mutant: Mutant) -> bool {
        let (right, (case, expected)) = (self.decl(), &self.cases[case]);
        let swap = |own: &'static Decl| if std::ptr::eq(own, right) { mutant.decl } else { own };
        let found = block_on(on_gpu(case, device.as_gpu().unwrap(), Some(&swap)));
        let found = found.unwrap_or_else(|e| panic!("{}: {}: {e}", self.kernel, mutant.what));
        !compare(case, &found, expected).ok
    }
}

/// A shape, whatever format its weights have.
fn without_format(shape: &str) -> String {
    let is_format = |word: &&str| WeightFormat::ALL.iter().any(|format| format.name() == *word);
    shape.split(' ').filter(|word| !is_format(word)).collect::<Vec<_>>().join(" ")
}

fn compiles(proof: &Proof, mutant: Mutant) -> bool {
    let format = proof.cases[0].0.permutations().into_iter().find(|p| p.decl.name == proof.kernel).unwrap().format;
    let Ok(module) = naga::front::wgsl::parse_str(&mutant.decl.source(format)) else { return false };
    let all = naga::valid::Capabilities::all();
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), all).validate(&module).is_ok()
}

#[test]
fn a_kernel_that_stores_something_else_is_noticed() {
    let mut count = 0;
    for kernel in taipan_cases::kernels() {
        let mut proof = Proof::new(kernel);
        let mutants = mutate::stores(proof.decl());
        assert!(!mutants.is_empty(), "{kernel}: stores nothing");
        for mutant in mutants {
            assert!(compiles(&proof, mutant), "{kernel}: {}", mutant.what);
            assert!(proof.notices(mutant), "{kernel}: goes unnoticed: {}", mutant.what);
            count += 1;
        }
    }
    assert!(count >= 40, "only {count} stores");
}

/// Mistakes that change no result, by a part of their statement.
const EQUIVALENT: [(&str, &str); 5] = [
    // An invocation's run of tokens gets an end before its beginning, but for the first, which then does all the work.
    ("sample", "min(begin + run, "),
    // The last chunk takes itself for a full one: its rows past the segment are read by nobody.
    ("bmm_chunk", "control[TOKENS] - begin"),
    ("chunk_scan", "control[TOKENS] - first"),
    // The same of the last run of tokens.
    ("causal_conv1d", "control[TOKENS] - t0"),
    // Far below a rounding step of any sum of weights but that of none.
    ("route", "total + 1e-20"),
];

fn is_equivalent(kernel: &str, what: &str) -> bool {
    EQUIVALENT.iter().any(|(k, part)| *k == kernel && what.contains(part))
}

/// Wrong operators of a kernel that were tried, and those that nobody noticed.
fn wrong_operators(kernel: &'static str) -> (usize, Vec<String>) {
    let mut proof = Proof::new(kernel);
    let mut mutants: Vec<_> = mutate::operators(proof.decl()).into_iter().filter(|m| compiles(&proof, *m)).collect();
    mutants.retain(|m| !is_equivalent(kernel, m.what));
    let count = mutants.len();
    mutants.retain(|mutant| !proof.notices(*mutant));
    (count, mutants.iter().map(|mutant| format!("{kernel}: {}", mutant.what)).collect())
}

#[test]
fn a_kernel_with_a_wrong_operator_is_noticed() {
    // A software adapter compiles each mutant on one core.
    let kernels = taipan_cases::kernels();
    let next = AtomicUsize::new(0);
    let work = || std::iter::from_fn(|| kernels.get(next.fetch_add(1, Relaxed)).copied()).map(wrong_operators);
    let found: Vec<_> = std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(|| work().collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let count: usize = found.iter().map(|(count, _)| count).sum();
    let unnoticed: Vec<_> = found.into_iter().flat_map(|(_, unnoticed)| unnoticed).collect();
    assert!(unnoticed.is_empty(), "{} of {count} go unnoticed:\n{}", unnoticed.len(), unnoticed.join("\n"));
    assert!(count >= 150, "only {count} operators");
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error() {
    let proof = Proof::new("rms_norm");
    let mut broken = mutate::stores(proof.decl())[0];
    let Decl { shared, matrix, bindings, workgroup, .. } = *broken.decl;
    broken.decl = Box::leak(Box::new(Decl { name: "broken", body: "fn main( {", shared, matrix, bindings, workgroup }));
    // A device of its own: the error is reported to whoever asks it next.
    let gpu = block_on(taipan_gpu::Gpu::open(&taipan::GpuRequest::default())).unwrap();
    let error = block_on(on_gpu(&proof.cases[0].0, &gpu, Some(&|_| broken.decl))).unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
}

#[test]
fn tolerances_are_tight() {
    for case in taipan_cases::all(SEED) {
        assert!(tolerance(case.kernel) <= 5e-4, "{}", case.kernel);
    }
}
