//! Kernels whose workgroups wait for each other. A software adapter runs few workgroups at a time, and one waits for itself
//! only: so much of it runs everywhere.

use pollster::block_on;
use taipan::{Device, GpuRequest, LoadOptions, Model, SessionOptions, WeightDtype};
use taipan_kernels::{Decl, MixerStep, TokenStep};
use taipan_tests::mutate::Mutant;
use taipan_tests::tiny::{Gate, Tiny, ids};

/// A device of its own on which so many workgroups may wait for each other, in dispatches that go through so many blocks.
fn waiting(workgroups: u32, blocks: Option<u32>) -> Device {
    let request = GpuRequest { together: Some(workgroups), ..GpuRequest::default() };
    let device = block_on(Device::gpu(&request)).unwrap();
    let together = device.as_gpu().unwrap().together();
    assert_eq!(together, workgroups, "the adapter has subgroups, coherent and volatile buffers");
    blocks.into_iter().for_each(|blocks| device.as_gpu().unwrap().run_blocks(blocks));
    device
}

/// Cases of a kernel for which one workgroup has memory enough: narrow blocks, and MLPs that are not as wide as they may be.
fn narrow(kernel: &str, seed: u64, shapes: &str) -> Vec<taipan_cases::Case> {
    let fits = |case: &taipan_cases::Case| {
        let own = if kernel == "mixer_step" {
            case.shape.starts_with("256 wide")
        } else {
            case.shape.contains("576 outputs")
        };
        case.kernel == kernel && own && case.shape.contains(shapes)
    };
    taipan_cases::blocks(seed).into_iter().filter(fits).collect()
}

/// Dispatches of each case of a kernel, trials included.
fn dispatches_of(kernel: &str, device: &Device, seed: u64, shapes: &str) -> Vec<u64> {
    let cases = narrow(kernel, seed, shapes);
    let gpu = device.as_gpu().unwrap();
    let one = |case: &taipan_cases::Case| {
        let before = gpu.counts();
        let report = block_on(taipan_cases::run(case, device)).unwrap();
        assert!(report.ok, "{}: {:?}", report.shape, report.detail);
        gpu.counts().since(before).dispatches
    };
    cases.iter().map(one).collect()
}

fn dispatches(device: &Device, seed: u64, shapes: &str) -> Vec<u64> {
    dispatches_of("mixer_step", device, seed, shapes)
}

#[test]
fn layers_in_one_dispatch_agree_with_their_calls() {
    let dispatches = |device: &Device, seed, shapes: &str| dispatches_of("token_step", device, seed, shapes);
    // A trial, and everything.
    assert_eq!(dispatches(&waiting(1, None), 7, ""), [2; 5]);
    // Groups of two blocks, one by one with the same pipeline; and where one block may go, it does alone, then the other with
    // the layer behind it, after a trial of each.
    assert_eq!(dispatches(&waiting(1, Some(3)), 8, "2 times 2 blocks and 4/2"), [3]);
    assert_eq!(dispatches(&waiting(1, Some(1)), 9, "2 times 2 blocks and 4/2"), [2 + 2 + 2]);
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

/// What a case gives where its kernel has this body.
fn with(case: &taipan_cases::Case, device: &Device, body: &str) -> Vec<Vec<u32>> {
    let own = decl(case.kernel);
    let other = Mutant::new(own, body.to_owned(), String::new()).decl;
    let swap = |decl: &'static Decl| if std::ptr::eq(decl, own) { other } else { decl };
    block_on(taipan_cases::on_gpu(case, device.as_gpu().unwrap(), Some(&swap))).unwrap()
}

fn decl(kernel: &str) -> &'static Decl {
    if kernel == "mixer_step" { MixerStep::decl() } else { TokenStep::decl() }
}

fn one_of(kernel: &str, seed: u64, shape: &str) -> taipan_cases::Case {
    narrow(kernel, seed, shape).remove(0)
}

#[test]
fn stages_written_out_are_those_of_the_loop() {
    for (kernel, shape) in [("mixer_step", "1 blocks f16"), ("token_step", "f16")] {
        let (device, case) = (waiting(1, Some(8)), one_of(kernel, 13, shape));
        // One workgroup has more stages than are written out where many share them.
        let body = decl(kernel).body;
        assert_eq!(with(&case, &device, &taipan_shaders::written_out(body, 48)), with(&case, &device, body));
    }
}

#[test]
fn who_waits_in_vain_says_so_and_leaves_no_number() {
    let device = waiting(1, Some(8));
    // Given to a place that nobody takes them from: of a block B, C and dt, y, and x of the block before; of a layer whose token
    // is selected keys and values, queries, what a part of a head comes to, x with what attention makes of it, and the MLP's.
    let of_layers = [
        "give(KV_GIVEN + row,",
        "give(Q_GIVEN + first_of(at.group, DIM) + j,",
        "give(PARTS_GIVEN + unit * PART + d,",
        "give(X_GIVEN + first_of(group, DIM) + j,",
        "give(MLP_GIVEN + first_of(at.group, MLP) + j,",
    ];
    let of_blocks = ["give(group * ALL_STRIDE + j,", "give(Y_GIVEN + row,", "give(X_GIVEN + first_of(group, DIM) + j,"];
    let kernels =
        [("mixer_step", "3 blocks bf16", &of_blocks[..]), ("token_step", "bias 9, unbounded f16", &of_layers)];
    for (kernel, shape, all) in kernels {
        let (case, right) = (one_of(kernel, 12, shape), decl(kernel).body);
        for given in all {
            assert_eq!(right.matches(given).count(), 1, "{given}");
            // Lavapipe ends all loops of an invocation that has gone round so often, those around barriers too.
            let soon = right.replace("tries <= params.patience", "tries <= 1000u");
            let found = with(&case, &device, &soon.replace(given, "give(~0u,"));
            assert!(found[0].iter().all(|word| f32::from_bits(*word).is_nan()), "{given}: {:?}", found[0]);
        }
    }
}

fn tiny(layers: &str) -> Tiny {
    Tiny::new(layers).with("hidden_size", 256).with("mamba2.d_state", 128).with("mamba2.head_dim", 64)
}

/// Dispatches of a token, and logits behind some.
fn decode(tiny: &Tiny, device: &Device) -> (usize, Vec<f32>) {
    let options = LoadOptions { dtype: WeightDtype::F16, ..LoadOptions::default() };
    let model = block_on(Model::from_bytes(tiny.files(), device, options)).unwrap();
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
}

/// Decodes in dispatches of so many blocks, each of which saves so many dispatches.
fn decodes_the_same(tiny: &Tiny, saved: &[(u32, usize)]) {
    let (many, expected) = decode(tiny, &waiting(0, Some(1)));
    for (blocks, saved) in saved {
        let (few, found) = decode(tiny, &waiting(1, Some(*blocks)));
        assert_eq!(many - few, *saved, "{blocks} blocks to a dispatch");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }
}

#[test]
fn a_model_decodes_the_same_in_fewer_dispatches() {
    // Heads of 16 channels, which attend on their own; of three blocks two are neighbours.
    decodes_the_same(&tiny("mmsm"), &[(1, 6), (8, 7)]);
}

#[test]
fn a_model_decodes_the_same_with_its_attention_in_such_a_dispatch() {
    // Two times three calls of a block and six of a layer, and a block behind them.
    let attention = [("num_heads", 4), ("num_key_value_heads", 2), ("head_dim", 64), ("intermediate_size", 576)];
    let tiny = attention.iter().fold(tiny("msmsm"), |t, (key, n)| t.with(&format!("selective_attention.{key}"), *n));
    for gate in [Gate::Mixed, Gate::Always] {
        let tiny = Tiny { gate, ..tiny.clone() };
        decodes_the_same(&tiny, &[(1, 18 - 2 + 2), (8, 18 - 1 + 2)]);
    }
}
