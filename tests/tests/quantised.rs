//! Quantised weights: what they cost the embedded model, on every device, and what `quantize` writes.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use pollster::block_on;
use taipan::{
    Config, Device, Dtype, Error, FileStart, Headers, LoadOptions, Model, ModelFiles, Quant, RangedWeights,
    SessionOptions, WeightDtype, Weights,
};
use taipan_tests::compare::assert_close;
use taipan_tests::device;
use taipan_tests::drive::{decode_logits, prefill_logits};
use taipan_tests::golden::family_cases;
use taipan_tests::tiny::{Tiny, ids};

fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cli/model")
}

fn open(device: &Device, dtype: WeightDtype) -> Model {
    let options = LoadOptions { dtype, ..LoadOptions::default() };
    block_on(Model::open(&embedded(), device, options)).unwrap()
}

/// The embedded model's held-out text.
fn text(model: &Model) -> Vec<u32> {
    model.encode(&std::fs::read_to_string(embedded().join("heldout.txt")).unwrap()).unwrap()
}

/// Mean of −ln p over all tokens but the first.
fn nats(model: &Model, ids: &[u32]) -> f64 {
    let mut session = model.session(SessionOptions::default()).unwrap();
    let (mut sum, mut next) = (0.0, 1);
    block_on(session.prefill_rows(ids, |rows| {
        for row in rows.logits.chunks_exact(model.config().vocab_size) {
            if let Some(id) = ids.get(next) {
                let most = row.iter().fold(f32::MIN, |a, x| a.max(*x));
                let log_sum = row.iter().map(|x| f64::from(x - most).exp()).sum::<f64>().ln() + f64::from(most);
                sum += log_sum - f64::from(row[*id as usize]);
            }
            next += 1;
        }
        Ok(())
    }))
    .unwrap();
    sum / (ids.len() - 1) as f64
}

/// How much a perplexity may rise over that of f16: 0.5 % with int8, 5 % with int4.
const BOUNDS: [(WeightDtype, f64); 2] = [(WeightDtype::Q8, 0.005), (WeightDtype::Q4, 0.05)];

#[test]
fn perplexity_rises_by_less_than_promised() {
    let cpu = Device::cpu();
    let f16 = open(&cpu, WeightDtype::F16);
    let text = text(&f16);
    assert!(text.len() > 2000, "{} tokens measure nothing", text.len());
    // A session runs most of its time on one core, so they run at the same time.
    let text = &text;
    let (before, after) = std::thread::scope(|scope| {
        let after = BOUNDS.map(|(dtype, _)| scope.spawn(move || nats(&open(&Device::cpu(), dtype), text).exp()));
        (nats(&f16, text).exp(), after.map(|thread| thread.join().unwrap()))
    });
    for ((dtype, bound), after) in BOUNDS.into_iter().zip(after) {
        let rise = after / before - 1.0;
        println!("{dtype:?}: perplexity {after:.4}, f16 {before:.4}: {:+.2} %", 100.0 * rise);
        assert!(rise.abs() <= bound, "{dtype:?}: {after} against {before}");
        // It is not f16 under another name.
        assert!(rise.abs() > 1e-5, "{dtype:?}: {after} against {before}");
    }
}

#[test]
fn a_gpu_computes_with_the_same_integers() {
    let (cpu, gpu) = (Device::cpu(), device::gpu());
    for (dtype, _) in BOUNDS {
        let (on_cpu, on_gpu) = (open(&cpu, dtype), open(&gpu, dtype));
        let text = &text(&on_cpu)[..100];
        let (expected, found) = (nats(&on_cpu, text), nats(&on_gpu, text));
        // 0.1 % of a perplexity, a fifth of what int8 may cost: a token near a gate's tie may be selected here and not there.
        assert!((found - expected).abs() < 1e-3, "{dtype:?}: {found} on the GPU, {expected} on the CPU");
    }
}

fn tiny() -> Tiny {
    // Columns that end inside a group, and rows of an odd number of groups.
    Tiny::new("ms").with("hidden_size", 39).with("mamba2.head_dim", 13).with("vocab_size", 51)
}

#[test]
fn a_quantised_file_is_what_loading_makes() {
    for (stored, asked) in [(Dtype::Q8, WeightDtype::Q8), (Dtype::Q4, WeightDtype::Q4)] {
        for device in [Device::cpu(), device::gpu()] {
            let at_load = tiny().open_with(&device, LoadOptions { dtype: asked, ..LoadOptions::default() });
            let prompt = ids(20, 51, 3);
            let expected = prefill_logits(&mut at_load.session(SessionOptions::default()).unwrap(), &prompt);
            // As stored, and asked for by name.
            for dtype in [WeightDtype::Auto, asked] {
                let options = LoadOptions { dtype, ..LoadOptions::default() };
                let model = tiny().dtype(stored).open_with(&device, options);
                assert_eq!(model.format(), stored.format());
                let found = prefill_logits(&mut model.session(SessionOptions::default()).unwrap(), &prompt);
                assert_eq!(found, expected, "{stored:?} as {dtype:?}");
            }
            // As numbers again, which f32 holds exactly.
            let options = LoadOptions { dtype: WeightDtype::F32, ..LoadOptions::default() };
            let model = tiny().dtype(stored).open_with(&device, options);
            let found = decode_logits(&mut model.session(SessionOptions::default()).unwrap(), &prompt);
            assert_close(&format!("{stored:?} as f32"), &found, &expected, 1e-4);
        }
    }
}

#[test]
fn a_matrix_of_several_batches_is_whole() {
    // An embedding of more than 2^20 numbers, whose last row stands alone and has an odd number of groups.
    let tiny = Tiny::new("m").with("vocab_size", 40_001);
    let prompt = [40_000, 5, 39_999, 33_000, 8_200];
    for (stored, asked) in [(Dtype::Q8, WeightDtype::Q8), (Dtype::Q4, WeightDtype::Q4)] {
        let options = || LoadOptions { dtype: asked, ..LoadOptions::default() };
        let logits = |model: Model| decode_logits(&mut model.session(SessionOptions::default()).unwrap(), &prompt);
        let expected = logits(tiny.open_with(&Device::cpu(), options()));
        assert_eq!(logits(tiny.clone().dtype(stored).open(&Device::cpu())), expected, "{stored:?}");
        assert_close(&format!("{stored:?}"), &logits(tiny.open_with(&device::gpu(), options())), &expected, 2e-3);
    }
}

/// The tiny model's weights, quantised into `out`.
fn quantise(tiny: &Tiny, quant: Quant, out: &mut (impl Write + std::io::Seek)) -> taipan::Result<taipan::Quantized> {
    let ModelFiles { config, weights, .. } = tiny.files();
    let weights = Weights::from_bytes(weights).unwrap();
    block_on(taipan::quantize(&weights, &Config::from_json(&config).unwrap(), quant, out, None))
}

#[test]
fn what_is_no_matrix_is_copied() {
    for stored in [Dtype::F32, Dtype::F16] {
        let tiny = tiny().dtype(stored);
        let mut file = Cursor::new(Vec::new());
        let done = quantise(&tiny, Quant::Q4, &mut file).unwrap();
        let original = Weights::from_bytes(tiny.files().weights).unwrap();
        let copy = Weights::from_bytes(vec![("model.safetensors".to_owned(), file.into_inner().into())]).unwrap();
        let (mut matrices, mut copied) = (0, 0);
        for info in &original.headers().tensors {
            let found = copy.headers().get(&info.name).unwrap();
            if found.quantised_as().is_some() {
                assert!(info.shape.len() == 2 && !info.name.ends_with("gate.weight"), "{}", info.name);
                matrices += 1;
            } else {
                assert_eq!(
                    copy.get_raw(&info.name).unwrap().1,
                    original.get_raw(&info.name).unwrap().1,
                    "{}",
                    info.name
                );
                copied += 1;
            }
        }
        // Embedding, two of the mixer, seven of the attention layer.
        assert_eq!((matrices, copied), (10, original.headers().tensors.len() - 10));
        assert_eq!((done.matrices, done.copied), (matrices, copied));
        assert_eq!(
            (done.bytes, done.original_bytes),
            (copy.headers().stored_bytes(), original.headers().stored_bytes())
        );
    }
}

#[test]
fn weights_that_cannot_be_quantised_are_errors() {
    let refused = |tiny: Tiny| quantise(&tiny, Quant::Q8, &mut Cursor::new(Vec::new())).unwrap_err();
    let error = refused(tiny().dtype(Dtype::Q4));
    assert!(matches!(&error, Error::AlreadyQuantised { found: "Q4", .. }), "{error}");
    assert!(error.hint().unwrap().contains("made from"), "{error}");
    for (tensor, index) in [("layers.1.mlp.up_proj.weight", 77), ("layers.0.mixer.D", 1)] {
        let error = refused(tiny().patch(tensor, index, f32::NAN));
        match &error {
            Error::NotFinite { name, index: at, .. } => assert_eq!((&name[..], *at), (tensor, index)),
            _ => panic!("{error}"),
        }
    }
    let error = refused(tiny().patch("embedding.weight", 41, 1e7));
    match &error {
        Error::Overflow { name, dtype: "q8", index: 41, value, .. } => {
            assert_eq!((&name[..], *value), ("embedding.weight", 1e7))
        }
        _ => panic!("{error}"),
    }
    // The same when loading.
    let options = LoadOptions { dtype: WeightDtype::Q8, ..LoadOptions::default() };
    let error = tiny().patch("embedding.weight", 41, -1e7).try_open(&Device::cpu(), options).err().unwrap();
    assert!(matches!(error, Error::Overflow { dtype: "q8", index: 41, .. }), "{error}");
}

#[test]
fn integers_may_come_in_ranges() {
    let tiny = tiny().with("vocab_size", 27_001).dtype(Dtype::Q4);
    let ModelFiles { config, weights, .. } = tiny.files();
    let file = weights[0].1.to_vec();
    let start = FileStart { name: "model.safetensors", bytes: &file, len: file.len() as u64 };
    let headers = Headers::parse(&[start], None).unwrap();
    let read = |_: &str, range: std::ops::Range<u64>| {
        std::future::ready(Ok(file[range.start as usize..range.end as usize].to_vec()))
    };
    let source = RangedWeights::new(headers, read);
    let prompt = [27_000, 3, 26_999, 13_001];
    for device in [Device::cpu(), device::gpu()] {
        // As integers, and as numbers again.
        for dtype in [WeightDtype::Auto, WeightDtype::F32] {
            let options = || LoadOptions { dtype, ..LoadOptions::default() };
            let logits = |model: Model| decode_logits(&mut model.session(SessionOptions::default()).unwrap(), &prompt);
            let ranged = block_on(Model::from_source(&config, None, &source, &device, options())).unwrap();
            assert_eq!(logits(ranged), logits(tiny.open_with(&device, options())), "{dtype:?}");
        }
    }
}

#[test]
fn every_family_can_be_quantised() {
    for case in family_cases() {
        let (config, weights) =
            (std::fs::read(case.dir.join("config.json")).unwrap(), Weights::open(&case.dir).unwrap());
        let prompt = &case.prompts.iter().min_by_key(|p| p.ids.len().abs_diff(12)).unwrap().ids;
        let logits = |model: Model| prefill_logits(&mut model.session(SessionOptions::default()).unwrap(), prompt);
        let at_load = |device: &Device| {
            let options = LoadOptions { dtype: WeightDtype::Q4, ..LoadOptions::default() };
            logits(block_on(Model::open(&case.dir, device, options)).unwrap())
        };
        let expected = at_load(&Device::cpu());
        let mut out = Cursor::new(Vec::new());
        let parsed = Config::from_json(&config).unwrap();
        block_on(taipan::quantize(&weights, &parsed, Quant::Q4, &mut out, None))
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let weights = vec![("model.safetensors".to_owned(), out.into_inner().into())];
        let files = ModelFiles { config: config.into(), weights, tokenizer: None };
        let copy = block_on(Model::from_bytes(files, &Device::cpu(), LoadOptions::default())).unwrap();
        assert_eq!(logits(copy), expected, "{}", case.name);
        assert_close(&case.name, &at_load(&device::gpu()), &expected, 2e-3);
    }
}

/// A disk that is full after so many bytes.
struct Full(Cursor<Vec<u8>>, usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1 = self.1.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Seek for Full {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_comes() {
    let mut whole = Cursor::new(Vec::new());
    quantise(&tiny(), Quant::Q4, &mut whole).unwrap();
    let size = whole.into_inner().len();
    for room in [0, 100, size / 2, size - 1] {
        let error = quantise(&tiny(), Quant::Q4, &mut Full(Cursor::new(Vec::new()), room)).unwrap_err();
        assert!(error.hint().unwrap().contains("free some space"), "{room} of {size}: {error}");
    }
    quantise(&tiny(), Quant::Q4, &mut Full(Cursor::new(Vec::new()), size)).unwrap();
}
