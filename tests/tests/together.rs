//! Kernels whose workgroups wait for each other. A software adapter runs few workgroups at a time, and one waits for itself
//! only: so much of it runs everywhere.

use pollster::block_on;
use taipan::{Device, GpuRequest, LoadOptions, Model, SessionOptions, WeightDtype};
use taipan_kernels::{Decl, MixerStep};
use taipan_tests::mutate::Mutant;
use taipan_tests::tiny::{Tiny, ids};

/// A device of its own on which so many workgroups may wait for each other, in dispatches that go through so many blocks.
fn waiting(workgroups: u32, blocks: Option<u32>) -> Device {
    let request = GpuRequest { together: Some(workgroups), ..GpuRequest::default() };
    let device = block_on(Device::gpu(&request)).unwrap();
    let together = device.as_gpu().unwrap().together();
    assert_eq!(together, workgroups, "the adapter has subgroups, coherent and volatile buffers");
    blocks.into_iter().for_each(|blocks| device.as_gpu().unwrap().run_blocks(blocks));
    device
}

/// Runs narrow blocks, for which one workgroup has memory enough; dispatches of each case, trials included.
fn dispatches(device: &Device, seed: u64, shapes: &str) -> Vec<u64> {
    let cases = taipan_cases::blocks(seed).into_iter().filter(|case| case.shape.starts_with("256 wide"));
    let cases: Vec<_> = cases.filter(|case| case.shape.contains(shapes)).collect();
    let gpu = device.as_gpu().unwrap();
    let one = |case: &taipan_cases::Case| {
        let before = gpu.counts();
        let report = block_on(taipan_cases::run(case, device)).unwrap();
        assert!(report.ok, "{}: {:?}", report.shape, report.detail);
        gpu.counts().since(before).dispatches
    };
    cases.iter().map(one).collect()
}

#[test]
fn blocks_in_one_dispatch_agree_with_their_calls() {
    // A trial, and the blocks.
    assert_eq!(dispatches(&waiting(1, Some(8)), 7, ""), [2; 5]);
    // The third block is another pipeline, so there is another trial.
    assert_eq!(dispatches(&waiting(1, Some(2)), 8, "3 blocks bf16"), [4]);
    // One by one, all with the same pipeline; and as many as there are, if nobody says how many.
    assert_eq!(dispatches(&waiting(1, Some(1)), 9, "3 blocks bf16"), [4]);
    assert_eq!(dispatches(&waiting(1, None), 9, "3 blocks q4"), [2]);
    // The calls one by one, which nobody tries.
    assert_eq!(dispatches(&waiting(1, Some(0)), 10, "3 blocks bf16"), [9]);
    assert_eq!(dispatches(&waiting(0, Some(8)), 11, "3 blocks bf16"), [9]);
}

#[test]
fn workgroups_that_do_not_run_at_the_same_time_are_noticed() {
    let device = waiting(106, Some(8)); // 53 are tried first, which have rows enough, then 46, 39, 33 and 26
    let few_cores = std::thread::available_parallelism().is_ok_and(|n| n.get() < 26);
    let found = dispatches(&device, 9, "3 blocks bf16");
    if device.as_gpu().unwrap().report().software && few_cores {
        // Five trials in vain, and the calls one by one. A card may run so many.
        assert_eq!(found, [14]);
    }
}

/// What a case gives where `mixer_step` has this body.
fn with(case: &taipan_cases::Case, device: &Device, body: &str) -> Vec<Vec<u32>> {
    let other = Mutant::new(MixerStep::decl(), body.to_owned(), String::new()).decl;
    let swap = |decl: &'static Decl| if std::ptr::eq(decl, MixerStep::decl()) { other } else { decl };
    block_on(taipan_cases::on_gpu(case, device.as_gpu().unwrap(), Some(&swap))).unwrap()
}

fn one_of(seed: u64, shape: &str) -> taipan_cases::Case {
    let mut cases = taipan_cases::blocks(seed).into_iter();
    cases.find(|case| case.shape.starts_with("256 wide") && case.shape.contains(shape)).unwrap()
}

#[test]
fn stages_written_out_are_those_of_the_loop() {
    let (device, case) = (waiting(1, Some(8)), one_of(13, "1 blocks f16"));
    // One workgroup has more stages than are written out where many share them.
    let body = MixerStep::decl().body;
    assert_eq!(with(&case, &device, &taipan_shaders::written_out(body, 48)), with(&case, &device, body));
}

#[test]
fn who_waits_in_vain_says_so_and_leaves_no_number() {
    let (device, case) = (waiting(1, Some(8)), one_of(12, "3 blocks bf16"));
    // B, C and dt, y, and x of the block before are given to a place that nobody takes them from.
    for given in ["give(group * ALL_STRIDE + j,", "give(Y_GIVEN + row,", "give(X_GIVEN + first_of(group, DIM) + j,"] {
        let right = MixerStep::decl().body;
        assert_eq!(right.matches(given).count(), 1, "{given}");
        let found = with(&case, &device, &right.replace(given, "give(~0u,"));
        assert!(found[0].iter().all(|word| f32::from_bits(*word).is_nan()), "{given}: {:?}", found[0]);
    }
}

fn model(device: &Device) -> Model {
    let tiny = Tiny::new("mmsm").with("hidden_size", 256).with("mamba2.d_state", 128).with("mamba2.head_dim", 64);
    let options = LoadOptions { dtype: WeightDtype::F16, ..LoadOptions::default() };
    block_on(Model::from_bytes(tiny.files(), device, options)).unwrap()
}

#[test]
fn a_model_decodes_the_same_in_fewer_dispatches() {
    let decode = |device: &Device| {
        let model = model(device);
        let mut session = model.session(SessionOptions::default()).unwrap();
        // As a segment, one by one, and from a saved state: whatever else uses the state finds it where it lies.
        block_on(session.prefill(&ids(9, 48, 1))).unwrap();
        block_on(session.prefill(&[3])).unwrap();
        let saved = block_on(session.save()).unwrap();
        block_on(session.prefill(&[7, 7, 7])).unwrap();
        block_on(session.restore(&saved)).unwrap();
        let mut session = block_on(session.fork()).unwrap();
        for id in [14, 15, 9, 26, 5] {
            block_on(session.prefill(&[id])).unwrap();
        }
        (model.decode_dispatches(), block_on(session.logits()).unwrap())
    };
    let (many, expected) = decode(&waiting(0, Some(1)));
    for (blocks, saved) in [(1, 6), (8, 7)] {
        let (few, found) = decode(&waiting(1, Some(blocks)));
        assert_eq!(many - few, saved, "of three blocks, {blocks} to a dispatch, in which two are neighbours");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }
}
