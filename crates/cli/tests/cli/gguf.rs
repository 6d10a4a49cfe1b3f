//! Models in GGUF files, by the name of the file or of its folder.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Folder, on_cpu, taipan, taipan_reading};
use crate::gguf_file::GgufFile;

/// A hybrid with a tokenizer and a template.
fn case() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf/cases/granitehybrid")
}

/// The same in a folder of its own, and the name of the file.
fn folder() -> (Folder, String) {
    let folder = Folder::new();
    std::fs::copy(case().join("model.gguf"), folder.at("m-Q8_0.gguf")).expect("it can be copied");
    let file = folder.at("m-Q8_0.gguf");
    (folder, file)
}

fn generate(model: &str, more: &[&str]) -> Value {
    let args = ["generate", "-m", model, "--device", "cpu", "--json", "--temp", "0", "-n", "6"];
    taipan([&args[..], more].concat()).ok().json()
}

#[test]
fn a_file_and_its_folder_are_the_same_model() {
    let (folder, file) = folder();
    let text = "The dog isn't lazy";
    let one = generate(&file, &[text]);
    assert_eq!(one["ids"].as_array().map(Vec::len), Some(6), "{one}");
    assert_eq!(generate(&folder.at(""), &[text])["ids"], one["ids"]);
    // The template of the file makes another prompt of it, with two tokens of control.
    let asked = generate(&file, &["--chat", text]);
    let count = |run: &Value| run["timings"]["prompt_tokens"].as_u64();
    assert_eq!(count(&asked), count(&one).map(|n| n + 2));
    assert_eq!(generate(&file, &["<|user|>The dog isn't lazy<|assistant|>"])["ids"], asked["ids"]);

    std::fs::copy(&file, folder.at("m-F16.gguf")).expect("it can be copied");
    let refused = taipan(["generate", "-m", &folder.at(""), "--device", "cpu", "a"]);
    refused.fails(1, &["there are several GGUF files: m-F16.gguf, m-Q8_0.gguf", "hint: name one of these files"]);
    assert_eq!(generate(&file, &[text])["ids"], one["ids"]);
}

#[test]
fn every_command_takes_a_file() {
    let (folder, file) = folder();
    let out = folder.at("logits");
    on_cpu(&format!("logits -m {file} -p dog -o {out}")).ok();
    assert!(std::fs::metadata(&out).expect("it was written").len() > 4 * 320);

    let text = folder.write("text", "The quick brown fox jumps over the lazy dog. ".repeat(9));
    let score = on_cpu(&format!("perplexity -m {file} -f {text} --json")).ok().json();
    assert!(score["perplexity"].as_f64().is_some_and(|p| p > 1.0), "{score}");

    let replies =
        taipan_reading(["chat", "-m", &file, "--device", "cpu", "--json", "-n", "3"], b"Hello\n/stats\n").ok();
    let mut replies = serde_json::Deserializer::from_str(&replies.stdout).into_iter::<Value>();
    let reply = replies.next().expect("an answer").expect("it is JSON");
    assert!(reply["read"].as_u64() > Some(2), "{reply}");

    let bench = ["bench", "-m", &file, "-p", "2", "-n", "0", "-r", "1", "--min-time", "0", "--device", "cpu"];
    taipan(bench).ok();

    let validated = on_cpu(&format!("validate --json {}", case().parent().expect("it has one").display())).ok().json();
    assert_eq!((&validated["passed"], validated["prompts"].as_array().map(Vec::len)), (&true.into(), Some(14)));
}

#[test]
fn a_file_is_described_by_what_it_stores() {
    let (_folder, file) = folder();
    let info = on_cpu(&format!("info {file} --json")).ok().json();
    assert_eq!((&info["architecture"], &info["model"]), (&"granitemoehybrid".into(), &file.clone().into()));
    let stored = info["stored_bytes"].as_object().expect("an object");
    let kinds: Vec<_> = stored.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["BF16", "F16", "F32", "Q8_0"]);
    // 34 bytes for 32 numbers.
    assert_eq!(stored["Q8_0"].as_u64().map(|n| n % 34), Some(0));
    // With matrices as they are stored it takes what it is said to take.
    let sizes = info["sizes"].as_array().expect("a list");
    let said = sizes.iter().find(|size| size["stored"] == true).expect("one of them");
    let loaded = generate(&file, &["a"]);
    assert_eq!(said["weight_bytes"], loaded["timings"]["weight_bytes"]);
}

#[test]
fn what_does_not_fit_is_told_before_it_is_loaded() {
    let (folder, file) = folder();
    let out = folder.at("out");
    let args = ["logits", "-m", &file, "--ids", "1", "--device", "cpu", "-o", &out, "--ctx", "1000000000000"];
    taipan(args)
        .fails(1, &["m-Q8_0.gguf needs ", " TiB with matrices in q8: main memory is ", "hint: a smaller --ctx"]);
}

#[test]
fn floats_can_be_quantised_and_nothing_twice() {
    let (folder, file) = folder();
    let refused = taipan(["quantize", &file, &folder.at("no"), "--dtype", "q4"]);
    refused.fails(1, &[&file, "is stored as Q8_0 already", "hint: quantise the checkpoint"]);
    taipan(["validate", &file]).fails(1, &["a case is a folder with golden.json in it, not a file"]);
    let floats = folder.write("floats.gguf", GgufFile::mamba2(40, 32).bytes());
    taipan(["quantize", &floats, &folder.at("small"), "--dtype", "q8"]).ok();
    let logits = |model: &str, name: &str| {
        on_cpu(&format!("logits -m {model} --ids 1,2,3 -o {}", folder.at(name))).ok();
        std::fs::read(folder.at(name)).expect("it was written")
    };
    assert_eq!(logits(&folder.at("small"), "a").len(), logits(&floats, "b").len());
    assert!(folder.list().iter().all(|name| name != "no"), "{:?}", folder.list());
}

#[test]
fn a_file_that_is_damaged_or_of_another_kind_is_named() {
    let folder = Folder::new();
    let run = |bytes: &[u8]| {
        let file = folder.write("m.gguf", bytes);
        taipan(["generate", "-m", &file, "--device", "cpu", "a"])
    };
    let mut file = GgufFile::mamba2(40, 32);
    let bytes = file.bytes();
    run(&bytes[..bytes.len() - 1]).fails(1, &["m.gguf: tensor `", "hint: the download may have been cut short"]);
    run(b"").fails(1, &["m.gguf: the file ends after 0 bytes", "hint: "]);
    run(&bytes).fails(1, &["the model has no tokenizer", "hint: "]);
    file.text("general.architecture", "llama");
    run(&file.bytes()).fails(1, &["m.gguf: model_type \"llama (GGUF)\" is not supported", "hint: "]);
    taipan(["generate", "-m", &folder.at("no.gguf"), "--device", "cpu", "a"])
        .fails(1, &["no.gguf", "hint: check the path"]);
}
