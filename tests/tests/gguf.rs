//! Models in GGUF files, made with the gguf package, on every device, against the logits of the same numbers in float64.

use std::path::Path;

use pollster::block_on;
use serde_json::Value;
use taipan::{Device, Gguf, LoadOptions, Model, SessionOptions, WeightDtype};
use taipan_tests::compare::assert_close;
use taipan_tests::device;
use taipan_tests::drive::{decode_logits, endless, greedy, ids_of, prefill_logits, take};
use taipan_tests::golden::{Case, gguf_cases};

/// Architectures and what else they stand for: experts, and heads of which half rotates.
const NAMES: [&str; 7] = [
    "falcon-h1",
    "granitehybrid",
    "granitehybrid_bamba",
    "granitehybrid_moe",
    "mamba2",
    "nemotron_h",
    "nemotron_h_moe",
];

fn open(case: &Case, device: &Device, dtype: WeightDtype) -> Model {
    let options = LoadOptions { dtype, ..LoadOptions::default() };
    block_on(Model::open(&case.dir.join("model.gguf"), device, options))
        .unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

#[test]
fn every_architecture_and_type_on_every_device() {
    let cases = gguf_cases();
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, NAMES);
    for case in &cases {
        for (name, device, tolerance) in device::all() {
            let model = open(case, &device, WeightDtype::Auto);
            for p in case.prompts.iter().rev() {
                let what = format!("{} [{}] on {name}", case.name, p.ids.len());
                let mut session = model.session(SessionOptions::default()).unwrap();
                let logits = prefill_logits(&mut session, &p.ids);
                assert_close(&what, &logits, &p.logits, tolerance);
                let mut other = model.session(SessionOptions::default()).unwrap();
                let decoded = decode_logits(&mut other, &p.ids);
                assert_close(&format!("{what}: decode"), &decoded, &p.logits, tolerance);
                let continued = ids_of(&take(&mut session, &endless(greedy()), p.greedy.len()));
                assert_eq!(continued, p.greedy, "{what}: greedy continuation");
            }
        }
    }
}

#[test]
fn integers_of_the_file_are_ours_to_the_bit() {
    for case in gguf_cases() {
        let weights = block_on(Gguf::open(&case.dir.join("model.gguf")).unwrap().weights()).unwrap();
        let stored = |name: &str| weights.get(name).unwrap().dtype.name();
        match case.name.as_str() {
            "granitehybrid" => assert_eq!(stored("model.layers.0.mamba.in_proj.weight"), "Q8"),
            "nemotron_h" => {
                assert_eq!(stored("backbone.layers.0.mixer.in_proj.weight"), "Q4");
                assert_eq!(stored("backbone.layers.1.mixer.down_proj.weight"), "F16");
            }
            "nemotron_h_moe" => assert_eq!(stored("backbone.layers.1.mixer.experts.3.up_proj.weight"), "Q8"),
            "granitehybrid_bamba" => assert_eq!(stored("model.layers.0.feed_forward.up_proj.weight"), "Q4"),
            // A gate of one type and a projection up of another are one matrix.
            "granitehybrid_moe" => assert_eq!(stored("model.layers.0.shared_mlp.input_linear.weight"), "F32"),
            _ => {}
        }
        // The same numbers whether they stay integers or not: what `auto` computes is what f32 does.
        let prompt = case.prompts.iter().max_by_key(|p| p.ids.len()).unwrap();
        let run = |dtype| {
            let model = open(&case, &Device::cpu(), dtype);
            prefill_logits(&mut model.session(SessionOptions::default()).unwrap(), &prompt.ids)
        };
        assert_close(&case.name, &run(WeightDtype::F32), &run(WeightDtype::Auto), 1e-3);
    }
}

#[test]
fn the_tokenizer_and_the_template_are_in_the_file() {
    let case = gguf_cases().into_iter().find(|case| case.name == "granitehybrid").unwrap();
    let meta: Value = serde_json::from_slice(&std::fs::read(case.dir.join("golden.json")).unwrap()).unwrap();
    let model = open(&case, &Device::cpu(), WeightDtype::Auto);
    let tokenizer = model.tokenizer().unwrap();
    let (texts, ids) = (meta["tokenizer"]["texts"].as_array().unwrap(), meta["tokenizer"]["ids"].as_array().unwrap());
    assert!(texts.len() >= 3);
    for (text, ids) in texts.iter().zip(ids) {
        let text = text.as_str().unwrap();
        let expected: Vec<u32> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{text:?}");
    }
    assert_eq!(model.config().eos_token_ids, [0]);
    let file = Gguf::open(&case.dir.join("model.gguf")).unwrap();
    let config: Value = serde_json::from_slice(&file.description.tokenizer_config).unwrap();
    assert!(config["chat_template"].as_str().unwrap().contains("add_generation_prompt"));
    assert_eq!(config["eos_token"], "<|end|>");
}

#[test]
fn damaged_files_and_unknown_models_are_named() {
    let case = gguf_cases().into_iter().find(|case| case.name == "nemotron_h").unwrap();
    let bytes = std::fs::read(case.dir.join("model.gguf")).unwrap();
    let refused = |bytes: Vec<u8>| {
        let error = Gguf::from_bytes("model.gguf", bytes.into()).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        (error.code(), error.to_string())
    };
    let replaced = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        refused(bytes)
    };
    let (code, text) = replaced(b"GGUF", b"GGML");
    assert_eq!(code, "weights-invalid");
    assert!(text.contains("does not begin with \"GGUF\""), "{text}");
    let (_, text) = replaced(b"GGUF\x03", b"GGUF\x01");
    assert!(text.contains("version is 1; expected 2 or 3"), "{text}");
    let (_, text) = replaced(b"ssm_out.weight", b"ssm_ouT.weight");
    assert!(text.contains("tensor blk.0.ssm_out.weight is missing"), "{text}");
    let (code, text) = replaced(
        b"general.architecture\x08\0\0\0\x0a\0\0\0\0\0\0\0nemotron_h",
        b"general.architecture\x08\0\0\0\x0a\0\0\0\0\0\0\0nemotron_x",
    );
    assert_eq!(code, "model-unsupported");
    assert!(text.contains("nemotron_x"), "{text}");
    for len in [0, 3, 10, 200, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(refused(bytes[..len].to_vec()).0, "weights-invalid", "{len} bytes");
    }
    assert!(Gguf::is(Path::new("a/B.GGUF")) && !Gguf::is(Path::new("gguf")));
}
