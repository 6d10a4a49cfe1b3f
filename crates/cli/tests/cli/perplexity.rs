//! `perplexity`: windows, and texts that cannot be measured. Its numbers are held to PyTorch's in `golden`.

use crate::common::{Folder, on_cpu, read_model_file, taipan};

#[test]
fn windows_start_afresh() {
    let folder = Folder::new();
    let text = String::from_utf8(read_model_file("heldout.txt")).expect("it is text");
    let cut = text.char_indices().nth(1500).expect("it is longer").0;
    let file = folder.write("text", &text[..cut]);
    let run = |options: &str| on_cpu(&format!("perplexity --json -f {file} {options}")).ok().json();
    let whole = run("");
    let tokens = whole["tokens"].as_u64().expect("a number");
    assert_eq!(whole["predicted"], tokens - 1);

    let windows = run("--context 100");
    assert_eq!(windows["tokens"], tokens);
    assert_eq!(windows["predicted"], tokens - tokens.div_ceil(100));
    assert!(windows["nll_mean"].as_f64() > whole["nll_mean"].as_f64(), "less context is worse: {windows} {whole}");

    let one = run(&format!("--context {tokens}"));
    assert_eq!(one["nll_mean"], whole["nll_mean"]);
}

#[test]
fn the_table_says_what_the_json_says() {
    let folder = Folder::new();
    let file = folder.write("text", "Once upon a time, there was a little girl named Lily.");
    let json = on_cpu(&format!("perplexity --json -f {file}")).ok().json();
    let table = on_cpu(&format!("perplexity -f {file}")).ok();
    let perplexity = format!("{:.4}", json["perplexity"].as_f64().expect("a number"));
    for text in [perplexity.as_str(), "nats per token", "bits per byte", "selected"] {
        assert!(table.stdout.contains(text), "{text}: {}", table.stdout);
    }
    assert_eq!(table.stderr, "");
}

#[test]
fn the_bound_is_counted() {
    let folder = Folder::new();
    let file = folder.write("text", &read_model_file("heldout.txt")[..3000]);
    let json = on_cpu(&format!("perplexity --json -f {file} --attention-bound 0.01,2")).ok().json();
    let tokens = json["tokens"].as_f64().expect("a number");
    for layer in 0..2 {
        let share = |key: &str| json[key][layer].as_f64().expect(key);
        assert!(share("selected_fraction") * tokens <= 0.01 * tokens + 2.0, "{json}");
        assert!(share("refused_fraction") > 0.0, "{json}");
    }
}

#[test]
fn texts_that_cannot_be_measured_are_errors() {
    let folder = Folder::new();
    let run = |name: &str, bytes: &[u8]| on_cpu(&format!("perplexity -f {}", folder.write(name, bytes)));
    run("empty", b"").fails(1, &["0 tokens", "hint: "]);
    run("one", b"a").fails(1, &["1 tokens", "hint: "]);
    run("bad", b"Once upon \xff a time").fails(1, &["not valid UTF-8 at byte 10", "hint: "]);
    taipan(["perplexity", "--device", "cpu", "-f", &folder.at("nothing")]).fails(1, &["cannot read", "hint: "]);
}
