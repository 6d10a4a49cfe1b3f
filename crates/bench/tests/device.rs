//! The benchmark on a GPU, software or not: the same weights as on the CPU, gates that select, rows that are complete.

use pollster::block_on;
use taipan::description::{Description, Shape};
use taipan::{Config, Device, GpuRequest, SessionOptions, WeightDtype};
use taipan_bench::describe::{model_info, per_token};
use taipan_bench::draw::{self, Storage};
use taipan_bench::kernels::{self, Setup};
use taipan_bench::measure::{Plan, row};
use taipan_bench::random::Drawn;
use taipan_bench::record::{Adapter, KernelRecord, Probes, Runtime};
use taipan_bench::work::element_bytes;
use taipan_bench::workload::Test;
use taipan_bench::{probes, quality, tune};
use taipan_kernels::{Call, Kernel, NEVER, TUNABLES, Tuning, TuningTable, WeightFormat, row_stride};

const TINY: &str = r#"{
    "model_type": "taipan", "vocab_size": 300, "hidden_size": 36,
    "layer_types": ["mamba2", "mamba2", "selective_attention", "mamba2", "selective_attention"],
    "mamba2": { "d_state": 16, "d_conv": 4, "expand": 2, "head_dim": 8, "n_groups": 1 },
    "selective_attention": { "num_heads": 4, "head_dim": 8, "window": 32, "intermediate_size": 40 }
}"#;

fn tiny() -> Drawn {
    Drawn::new("tiny", Config::from_json(TINY.as_bytes()).expect("a valid config"), 5)
}

fn gpu() -> Device {
    block_on(Device::gpu(&GpuRequest::default())).expect("the tests need a GPU adapter, a software one will do")
}

#[test]
fn weights_drawn_on_the_device_are_those_drawn_on_the_cpu_to_the_bit() {
    let (device, drawn) = (gpu(), tiny());
    let gpu = device.as_gpu().expect("a GPU");
    let d = Description::new(&drawn.config, Shape { segment: 64, chunk: 64, logit_rows: 64 });
    for (i, recipe) in d.recipes.matrices.iter().enumerate() {
        let expected = drawn.matrix(i, recipe);
        for format in [WeightFormat::F16, WeightFormat::F32] {
            let stored = draw::matrix(gpu, &drawn, &d, i, format).expect("it fits");
            let (_, buffer) = &stored.pieces[0];
            let stride = row_stride(recipe.cols);
            let words = recipe.rows * format.row_bytes(recipe.cols) / 4;
            let desc = taipan_kernels::BufferDesc {
                name: "matrix".to_owned(),
                rows: 1,
                cols: words,
                element: taipan_kernels::Element::U32,
            };
            let found = block_on(gpu.read_dense(buffer, &desc)).expect("a readback");
            let bytes: Vec<u8> = found.iter().flat_map(|w| w.to_le_bytes()).collect();
            let value = |at: usize| match format {
                WeightFormat::F32 => f32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().expect("four bytes")),
                _ => half::f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32(),
            };
            for row in 0..recipe.rows {
                for col in 0..stride {
                    let wanted = if col < recipe.cols { expected[row * recipe.cols + col] } else { 0.0 };
                    assert_eq!(value(row * stride + col), wanted, "{:?} {format:?} [{row}, {col}]", recipe.tensors);
                }
            }
        }
    }
}

#[test]
fn calibrated_gates_select_some_tokens_and_both_devices_agree() {
    let (device, mut drawn) = (gpu(), tiny());
    block_on(draw::calibrate(&mut drawn, &Device::cpu(), Storage::default(), 128, draw::SELECTED)).expect("a CPU");
    assert_eq!(drawn.gate_bias.len(), 2);
    let on_gpu = block_on(draw::model(&drawn, &device, Storage::default())).expect("it fits");
    let on_cpu = block_on(draw::model(&drawn, &Device::cpu(), Storage::default())).expect("it fits");
    let mut session = on_gpu.session(SessionOptions::default()).expect("a session");
    block_on(session.prefill(&draw::ids(&drawn.config, 256, 0))).expect("a prefill");
    let share = quality::share(&block_on(session.stats()).expect("counters")).expect("there are gates");
    assert!((0.08..0.25).contains(&share), "{share} of the tokens are selected, not about 0.15");
    let (found, _) = block_on(quality::mixed(&on_gpu, 24)).expect("logits");
    let expected = block_on(quality::decoded(&on_cpu, 24)).expect("logits");
    let q = quality::compare(&found, &expected, "the CPU");
    assert!(q.max_abs_logit_err < 2e-2 && q.agreement_rate > 0.9, "{q:?}");

    block_on(draw::calibrate(&mut drawn, &Device::cpu(), Storage::default(), 128, 1.0)).expect("a CPU");
    let open = block_on(draw::model(&drawn, &Device::cpu(), Storage::default())).expect("it fits");
    let (_, share) = block_on(quality::mixed(&open, 64)).expect("logits");
    assert!(share.is_some_and(|share| share > 0.9), "{share:?} of the tokens are selected, not about all");
    let other = Drawn { seed: 6, ..drawn };
    let other = block_on(draw::model(&other, &Device::cpu(), Storage::default())).expect("it fits");
    let wrong = quality::compare(&found, &block_on(quality::decoded(&other, 24)).expect("logits"), "another model");
    assert!(wrong.max_abs_logit_err > 0.1 && wrong.agreement_rate < 0.5, "{wrong:?}");
}

#[test]
fn drawn_models_of_integers_agree_and_say_what_they_are() {
    let (device, drawn) = (gpu(), tiny());
    let mut smaller = f64::INFINITY;
    for (dtype, name, element) in [(WeightDtype::Q8, "q8", 34.0 / 32.0), (WeightDtype::Q4, "q4", 18.0 / 32.0)] {
        let storage = Storage { dtype, ..Storage::default() };
        let on_gpu = block_on(draw::model(&drawn, &device, storage)).expect("it fits");
        let on_cpu = block_on(draw::model(&drawn, &Device::cpu(), storage)).expect("it fits");
        let (found, _) = block_on(quality::mixed(&on_gpu, 24)).expect("logits");
        let q = quality::compare(&found, &block_on(quality::decoded(&on_cpu, 24)).expect("logits"), "the CPU");
        assert!(q.max_abs_logit_err < 2e-2 && q.agreement_rate > 0.9, "{name}: {q:?}");
        for model in [&on_gpu, &on_cpu] {
            let info = model_info(model, "tiny", String::new(), None);
            assert_eq!((info.dtype.as_str(), info.quant.as_deref()), (name, Some(name)));
            assert_eq!(element_bytes(model.format()), element);
        }
        let test = Test { prompt: 0, generate: 8, depth: 0 };
        let bytes = per_token(&on_gpu, &test, element, 0.15).0.weights;
        assert!(bytes < 0.8 * smaller, "{name}: {bytes} bytes a token, {smaller} before");
        smaller = bytes;
    }
    let plain = block_on(draw::model(&drawn, &Device::cpu(), Storage::default())).expect("it fits");
    let info = model_info(&plain, "tiny", String::new(), None);
    assert_eq!((info.dtype.as_str(), info.quant), ("f16", None));
}

#[test]
fn what_a_prompt_is_said_to_take_is_what_the_device_was_asked_for() {
    let (device, drawn) = (gpu(), tiny());
    let storage = Storage { segment: Some(20), recurrent: Some(3), ..Storage::default() };
    let model = block_on(draw::model(&drawn, &device, storage)).expect("it fits");
    let counts = || device.as_gpu().expect("a GPU").counts();
    for prompt in [2, 20, 43, 50] {
        let mut session = model.session(SessionOptions::default()).expect("a session");
        let before = counts();
        block_on(session.prefill(&draw::ids(&drawn.config, prompt, 0))).expect("a prefill");
        let asked = counts().since(before);
        let (_, dispatches, submits) = per_token(&model, &Test { prompt, generate: 0, depth: 0 }, 2.0, 0.15);
        let said = [dispatches, submits].map(|per| (per * prompt as f64).round() as u64);
        // Behind every segment the session waits for a copy of its own.
        let waits = prompt.div_ceil(20) as u64;
        assert_eq!(said, [asked.dispatches, asked.submits - waits], "a prompt of {prompt}");
    }
}

#[test]
fn repetitions_of_two_models_come_in_pairs() {
    let (device, drawn) = (gpu(), tiny());
    let models: Vec<_> = [device, Device::cpu()]
        .iter()
        .map(|d| block_on(draw::model(&drawn, d, Storage::default())).expect("it fits"))
        .collect();
    let plan = Plan { repetitions: 2, min_time: std::time::Duration::ZERO, ..Plan::default() };
    for test in Test::all(&[40], &[3], &[0, 20]) {
        let samples = block_on(row(&models, &test, &plan, |_| {})).expect("a measurement");
        for s in &samples {
            assert_eq!(s.repetitions.len(), 2);
            assert!(s.repetitions.iter().all(|r| r.ns > 0.0 && r.tokens_ns.len() == test.generate));
            assert!(s.repetitions.iter().all(|r| r.first_token_ns.is_some() == (test.depth == 0)));
        }
    }
}

fn setup() -> Setup {
    Setup {
        config: tiny().config,
        model: "tiny".to_owned(),
        seed: 5,
        selected: draw::SELECTED,
        format: WeightFormat::F16,
        tokens: 70,
        repetitions: 1,
        adapter: Adapter::default(),
        runtime: Runtime::default(),
        probes: Probes { copy_gbps: 1.0, fma_gflops: 1.0, ..Probes::default() },
    }
}

/// Every value of every tunable computes the same, is another dispatch, and a table with it changes what a device does.
#[test]
fn a_device_is_tuned_by_what_was_measured_and_computes_what_it_did() {
    let device = gpu();
    let gpu = device.as_gpu().expect("a GPU");
    // A window that is long enough to be divided.
    let config =
        Config::from_json(TINY.replace("\"window\": 32", "\"window\": 300").as_bytes()).expect("a valid config");
    let setup = || Setup { config: config.clone(), ..setup() };
    for tunable in TUNABLES {
        let format = if tunable.name.contains("integers") { WeightFormat::Q4 } else { WeightFormat::F16 };
        let tunings: Vec<Tuning> = tunable.values.iter().map(|v| gpu.tuning().with(tunable, *v)).collect();
        let wanted = |call: &Call| tunable.kernels.contains(&call.decl().name);
        let found = block_on(kernels::walk(gpu, &Setup { format, ..setup() }, &tunings, wanted, |_| {}))
            .expect("a measurement");
        let all: Vec<_> = found.iter().flatten().collect();
        assert!(all.iter().all(|r| r.ok && tunable.kernels.contains(&r.kernel.as_str())), "{all:?}");
        let differ = |records: &Vec<KernelRecord>| records.iter().any(|r| r.shape != records[0].shape);
        // Without cooperative matrices there is no shader for it to choose.
        let matters = tunable.name != "matmul_wide_from" || gpu.cooperative();
        assert_eq!(found.iter().any(differ), matters, "{}: whether values make a difference", tunable.name);
    }
    let entry = block_on(tune::tune(gpu, &[setup()], |_| {})).expect("a measurement");
    let note = entry.note.clone().expect("a note");
    for tunable in TUNABLES {
        let said = note.contains(&format!("{}, time over that of", tunable.name));
        assert!(entry.values.contains_key(tunable.name) && said, "{}: {note}", tunable.name);
    }
    let mut table = TuningTable::default();
    table.put(entry);
    let mut table = TuningTable::from_json(table.to_json().as_bytes()).expect("its own words");
    let matvecs = || {
        let records = block_on(kernels::run(gpu, &setup(), |_| {})).expect("a measurement");
        records.iter().filter(|r| r.kernel == "matvec" && r.shape.contains("EIGHT=1")).count()
    };
    for (value, eights) in [(1, true), (NEVER, false)] {
        table.entries[0].values.insert("matvec_eight_from", value);
        assert!(device.tune(&table));
        assert_eq!(matvecs() > 0, eights, "{value}");
    }
    table.entries[0].device.vendor = Some("0xabcd".to_owned());
    assert!(!device.tune(&table));
}

#[test]
fn every_kernel_of_a_model_matches_the_cpu_where_it_is_timed() {
    let device = gpu();
    let gpu = device.as_gpu().expect("a GPU");
    let records = block_on(kernels::run(gpu, &setup(), |_| {})).expect("a measurement");
    for r in &records {
        assert!(r.ok, "{} {} ({}): {} > {}", r.phase, r.kernel, r.shape, r.worst, r.tolerance);
        assert!(r.median_ns > 0.0 && r.calls > 0, "{r:?}");
    }
    let has = |phase: &str, kernel: &str| records.iter().any(|r| r.phase == phase && r.kernel == kernel);
    for kernel in ["matmul", "chunk_scan", "compact", "window_attention", "kv_append"] {
        assert!(has("prefill", kernel), "{kernel}");
    }
    for kernel in ["matvec", "mixer_update", "token_gate_kv", "token_attention", "sample"] {
        assert!(has("decode", kernel), "{kernel}");
    }
}

/// A block that a device runs in one dispatch is timed as that, and its calls are not.
#[test]
fn a_block_in_one_dispatch_is_a_kernel_of_its_own() {
    let wide = [
        ("\"hidden_size\": 36", "\"hidden_size\": 256"),
        ("\"d_state\": 16", "\"d_state\": 128"),
        // Few heads: one workgroup has the sums of all of them in its memory.
        ("\"expand\": 2, \"head_dim\": 8", "\"expand\": 2, \"head_dim\": 32"),
    ];
    let config = wide.into_iter().fold(TINY.to_owned(), |config, (from, to)| config.replace(from, to));
    let config = Config::from_json(config.as_bytes()).expect("a valid config");
    let decode = |together: u32| {
        let request = GpuRequest { together: Some(together), ..GpuRequest::default() };
        let device = block_on(Device::gpu(&request)).expect("a GPU adapter");
        let gpu = device.as_gpu().expect("a GPU");
        let setup = Setup { config: config.clone(), ..setup() };
        let mut records = block_on(kernels::run(gpu, &setup, |_| {})).expect("a measurement");
        records.retain(|r| r.phase == "decode");
        records
    };
    for (together, there, absent) in [(1, "mixer_step", "mixer_update"), (0, "mixer_update", "mixer_step")] {
        let records = decode(together);
        assert!(records.iter().all(|r| r.kernel != absent), "{absent}, {together}");
        let found = records.iter().find(|r| r.kernel == there).expect(there);
        assert!(found.ok && found.calls == 3 && found.gflops > 0.0, "{found:?}");
    }
}

/// A layer of attention that a device runs in a dispatch with the block before it is timed as that, selected, and the calls of
/// the layer are too, though no model has dispatches of them there.
#[test]
fn a_layer_in_one_dispatch_is_a_kernel_of_its_own() {
    let wide = [
        ("\"hidden_size\": 36", "\"hidden_size\": 256"),
        ("\"d_state\": 16", "\"d_state\": 128"),
        ("\"expand\": 2, \"head_dim\": 8", "\"expand\": 2, \"head_dim\": 64"),
        ("\"num_heads\": 4, \"head_dim\": 8", "\"num_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 64"),
        ("\"intermediate_size\": 40", "\"intermediate_size\": 576"),
    ];
    let config = wide.into_iter().fold(TINY.to_owned(), |config, (from, to)| config.replace(from, to));
    let config = Config::from_json(config.as_bytes()).expect("a valid config");
    let device =
        block_on(Device::gpu(&GpuRequest { together: Some(1), ..GpuRequest::default() })).expect("a GPU adapter");
    let setup = Setup { config, format: WeightFormat::Q4, ..setup() };
    let records = block_on(kernels::run(device.as_gpu().expect("a GPU"), &setup, |_| {})).expect("a measurement");
    let calls = |kernel: &str| {
        let record = records.iter().find(|r| r.phase == "decode" && r.kernel == kernel).expect(kernel);
        assert!(record.ok && record.median_ns > 0.0, "{record:?}");
        record.calls
    };
    // Of three blocks two have a layer behind them.
    assert_eq!((calls("token_step"), calls("mixer_step"), calls("token_attention"), calls("embed")), (2, 1, 0, 1));
}

#[test]
fn ceilings_are_numbers() {
    for device in [gpu(), Device::cpu()] {
        let p = block_on(probes::measure(&device)).expect("a measurement");
        assert!(
            p.copy_gbps > 0.0 && p.copy_gbps.is_finite() && p.fma_gflops > 0.0 && p.fma_gflops.is_finite(),
            "{p:?}"
        );
        assert_eq!(p.dispatch_us.is_some(), !device.is_cpu());
    }
}
