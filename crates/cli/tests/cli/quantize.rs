//! `quantize`: the folder it makes, what reads it, and that there is all of it or nothing.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{
    Folder, command, model_file, on_cpu, read_model_file, taipan, tiny_config, write_tiny, write_zeros,
};

fn embedded() -> String {
    model_file("").display().to_string()
}

#[test]
fn a_quantised_folder_is_a_model_like_any_other() {
    let folder = Folder::new();
    let text = folder.write("text", &read_model_file("heldout.txt")[..1500]);
    for dtype in ["q8", "q4"] {
        let out = folder.at(dtype);
        let made = taipan(["quantize", &embedded(), &out, "--dtype", dtype, "--json"]).ok();
        let report = made.json();
        assert_eq!(
            (&report["dtype"], &report["output"], made.stderr.as_str()),
            (&dtype.into(), &out.as_str().into(), "")
        );
        let size = |key: &str| report[key].as_f64().expect("a number");
        let share = size("bytes") / size("original_bytes");
        let bits = if dtype == "q8" { 8.5 } else { 4.5 };
        // The embedded model is f16 but for its vectors.
        assert!((bits / 16.0 - 0.01..bits / 16.0 + 0.05).contains(&share), "{report}");

        let perplexity = |options: &str| on_cpu(&format!("perplexity --json -f {text} {options}")).ok().json();
        let (file, load) = (perplexity(&format!("-m {out}")), perplexity(&format!("--dtype {dtype}")));
        assert_eq!(file["nll_mean"], load["nll_mean"], "the same numbers, whenever they were made");
        assert_ne!(file["nll_mean"], perplexity("")["nll_mean"]);
        on_cpu(&format!("generate -m {out} --temp 0 -n 3 Once")).ok();

        let info = on_cpu(&format!("info {out} --json")).ok().json();
        let sizes = info["sizes"].as_array().expect("a list");
        let stored: Vec<_> = sizes.iter().filter(|s| s["stored"] == true).collect();
        assert_eq!((stored.len(), &stored[0]["dtype"]), (1, &dtype.into()), "{info}");
        assert_eq!(
            info["stored_bytes"][dtype.to_uppercase()].as_f64().map(|n| n > size("bytes") * 0.9),
            Some(true),
            "{info}"
        );
    }
    assert_eq!(folder.list().len(), 3, "{:?}", folder.list());
}

#[test]
fn the_table_says_what_was_done() {
    let folder = Folder::new();
    write_tiny(folder.at("in").as_ref());
    let run = taipan(["quantize", &folder.at("in"), &folder.at("out"), "--dtype", "q4"]).ok();
    for text in ["matrices", " as q4, ", "KiB, before "] {
        assert!(run.stdout.contains(text), "{text}: {run:#?}");
    }
    // There is no tokenizer to be copied, and none is needed.
    on_cpu(&format!("logits -m {} --ids 1,2 -o {}", folder.at("out"), folder.at("logits"))).ok();
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let folder = Folder::new();
    let (tiny, out) = (folder.at("in"), folder.at("out"));
    write_tiny(tiny.as_ref());
    let quantize = |input: &str, output: &str| taipan(["quantize", input, output, "--dtype", "q8"]);
    quantize(&folder.at("nothing"), &out).fails(1, &["nothing", "hint: check the path"]);
    quantize(&tiny, &folder.at("no/folder")).fails(1, &["cannot create ", "no/folder"]);
    taipan(["quantize", &tiny, &out, "--dtype", "q3"]).fails(2, &["q3", "possible values: q8, q4"]);
    taipan(["quantize", &tiny, &out]).fails(2, &["--dtype"]);
    assert_eq!(folder.list(), ["in"]);

    quantize(&tiny, &out).ok();
    let run = taipan(["quantize", &tiny, &out, "--dtype", "q4", "--json"]);
    let run = run.fails(1, &["cannot create ", "hint: nothing is overwritten"]);
    assert_eq!(run.json()["error"]["code"], "io");
    quantize(&out, &folder.at("twice")).fails(1, &["is stored as Q8 already", "hint: quantise the checkpoint"]);
    assert_eq!(folder.list().len(), 2, "{:?}", folder.list());
}

#[test]
fn a_quantised_model_is_read_at_any_dtype() {
    let folder = Folder::new();
    let (tiny, out) = (folder.at("in"), folder.at("out"));
    write_tiny(tiny.as_ref());
    taipan(["quantize", &tiny, &out, "--dtype", "q4"]).ok();
    for dtype in ["auto", "f32", "f16", "bf16", "q8", "q4"] {
        let logits = folder.at(dtype);
        on_cpu(&format!("logits -m {out} --dtype {dtype} --ids 1,2,3 -o {logits}")).ok();
        assert!(std::fs::metadata(&logits).expect("there is a file").len() > 0, "{dtype}");
    }
}

/// A folder under construction has a name that begins with a dot.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    let folder = Folder::new();
    let mut config = tiny_config();
    config["vocab_size"] = 3_000_000.into();
    write_zeros(folder.at("in").as_ref(), &config);
    let mut child = command()
        .args(["quantize", &folder.at("in"), &folder.at("out"), "--dtype", "q4"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let start = Instant::now();
    while folder.list().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::sleep(Duration::from_millis(1));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill exists").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(folder.list(), ["in"]);
}
