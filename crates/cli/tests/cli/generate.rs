//! `generate`: prompts, limits, stop strings, JSON.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::common::{Folder, command, on_cpu, taipan, taipan_reading, write_tiny};

/// A greedy run on the CPU as JSON.
fn greedy(args: &[&str]) -> Value {
    taipan(["generate", "--temp", "0", "--device", "cpu", "--json"].iter().chain(args)).ok().json()
}

#[test]
fn text_goes_to_stdout_after_the_prompt() {
    let run = taipan(["generate", "--temp", "0", "-n", "8", "--device", "cpu", "Once upon a time"]).ok();
    let json = greedy(&["-n", "8", "Once upon a time"]);
    assert_eq!(run.stdout, format!("Once upon a time{}\n", json["text"].as_str().expect("text")));
    assert_eq!(run.stderr, "");
    let bare =
        taipan(["generate", "--temp", "0", "-n", "8", "--device", "cpu", "--no-display-prompt", "Once upon a time"])
            .ok();
    assert_eq!(bare.stdout, format!("{}\n", json["text"].as_str().expect("text")));
}

#[test]
fn a_prompt_comes_from_anywhere() {
    let folder = Folder::new();
    let file = folder.write("prompt.txt", "Lily and Tom\n");
    let expected = greedy(&["-n", "5", "Lily and Tom"]);
    for args in [&["-p", "Lily and Tom"][..], &["-f", &file], &["--prompt", "Lily and Tom"], &["--file", &file]] {
        assert_eq!(greedy(&[&["-n", "5"], args].concat())["ids"], expected["ids"], "{args:?}");
    }
    for input in ["Lily and Tom", "Lily and Tom\n", "Lily and Tom\r\n"] {
        let args = ["generate", "--temp", "0", "--device", "cpu", "--json", "-n", "5"];
        let json = taipan_reading(args, input.as_bytes()).ok().json();
        assert_eq!((&json["ids"], &json["prompt"]), (&expected["ids"], &expected["prompt"]), "{input:?}");
    }
    // A prompt that is given is not waited for.
    let dashed = greedy(&["-n", "1", "-p", "- a list"]);
    assert_eq!(dashed["prompt"], "- a list");
}

#[test]
fn nothing_is_added_to_a_prompt() {
    let json = greedy(&["-n", "1", "a"]);
    assert_eq!(json["timings"]["prompt_tokens"], 1);
    let special = greedy(&["-n", "1", "<|endoftext|>"]);
    assert_eq!(special["timings"]["prompt_tokens"], 1);
}

#[test]
fn an_empty_prompt_is_an_error() {
    on_cpu("generate").fails(1, &["the prompt is empty", "hint: "]);
    taipan(["generate", ""]).fails(1, &["the prompt is empty", "hint: "]);
    taipan_reading(["generate"], b"\n").fails(1, &["the prompt is empty", "hint: "]);
}

#[test]
fn input_that_is_not_text_is_an_error_with_its_place() {
    let bytes = b"good \xc3\xa9 bad \xff rest";
    taipan_reading(["generate"], bytes).fails(1, &["standard input is not valid UTF-8 at byte 12", "hint: "]);
    let folder = Folder::new();
    let file = folder.write("prompt.txt", bytes);
    taipan(["generate", "-f", &file]).fails(1, &[&file, "is not valid UTF-8 at byte 12"]);
    taipan(["generate", "-f", &folder.at("nothing")]).fails(1, &["cannot read", "hint: "]);
}

#[test]
fn the_number_of_tokens_is_kept() {
    for n in [0, 1, 2, 7] {
        let json = greedy(&["-n", &n.to_string(), "Once upon a time"]);
        assert_eq!(json["ids"].as_array().expect("a list").len(), n);
        assert_eq!(json["finish"], "limit");
    }
}

#[test]
fn generation_goes_on_past_the_end_of_a_text_only_if_told_to() {
    // The model ends this text on its own, before the limit or at it: the two runs agree up to there.
    let ended = greedy(&["-n", "300", "Once upon a time"]);
    let on = greedy(&["-n", "300", "--ignore-eos", "Once upon a time"]);
    let (ended_ids, on_ids) = (ended["ids"].as_array().expect("a list"), on["ids"].as_array().expect("a list"));
    assert_eq!(on_ids.len(), 300);
    assert_eq!(&on_ids[..ended_ids.len()], &ended_ids[..]);
    assert_eq!(ended["finish"], if ended_ids.len() < 300 { "eos" } else { "limit" });
    assert_eq!(ended_ids.iter().position(|id| *id == 0).map_or(300, |at| at + 1), ended_ids.len());
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let whole = greedy(&["-n", "40", "Once upon a time"])["text"].as_str().expect("text").to_owned();
    // A string from the middle of what comes, across token boundaries.
    let at = whole.char_indices().nth(30).expect("it is long enough").0;
    let stop = &whole[at..at + 9];
    let expected = &whole[..whole.find(stop).expect("it is in there")];
    let json = greedy(&["-n", "40", "-r", "never to be seen", "-r", stop, "Once upon a time"]);
    assert_eq!((json["text"].as_str(), json["finish"].as_str()), (Some(expected), Some("stop")));
    assert_eq!(json["stop"].as_str(), Some(stop));
    let args = ["generate", "--temp", "0", "--device", "cpu", "-n", "40", "-r", stop, "Once upon a time"];
    assert_eq!(taipan(args).ok().stdout, format!("Once upon a time{expected}\n"));
}

#[test]
fn what_only_began_like_a_stop_string_is_printed() {
    let whole = greedy(&["-n", "12", "Once upon a time"])["text"].as_str().expect("text").to_owned();
    let begun = format!("{}#", &whole[whole.len() - 4..]);
    let json = greedy(&["-n", "12", "-r", &begun, "Once upon a time"]);
    assert_eq!((json["text"].as_str(), json["finish"].as_str()), (Some(whole.as_str()), Some("limit")));
}

#[test]
fn a_seed_decides_the_text() {
    let run = |seed: &str| on_cpu(&format!("generate --json -n 20 -s {seed} Once")).ok().json();
    let (a, b, c) = (run("7"), run("7"), run("8"));
    assert_eq!(a["ids"], b["ids"]);
    assert_ne!(a["ids"], c["ids"]);
    assert_eq!(a["seed"], 7);
    let (random, other) = (run("-1"), run("-1"));
    assert_ne!(random["seed"], other["seed"]);
    let again = run(&random["seed"].to_string());
    assert_eq!(again["ids"], random["ids"]);
}

#[test]
fn samplers_reach_the_model() {
    let base = on_cpu("generate --json -n 30 -s 7 Once").ok().json();
    for option in ["--temp 3", "--top-k 2", "--top-p 0.3", "--min-p 0.9", "--repeat-penalty 3"] {
        let other = on_cpu(&format!("generate --json -n 30 -s 7 {option} Once")).ok().json();
        assert_ne!(other["ids"], base["ids"], "{option}");
    }
    // One token left is the most probable one.
    let one = on_cpu("generate --json -n 30 -s 7 --top-k 1 Once").ok().json();
    assert_eq!(one["ids"], greedy(&["-n", "30", "Once"])["ids"]);
}

#[test]
fn the_bound_reaches_the_model() {
    let prompt = "Lily and Tom went to the park. They saw a big tree. ".repeat(4);
    let free = greedy(&["-n", "40", &prompt]);
    let bound = greedy(&["-n", "40", "--attention-bound", "0.001,2", &prompt]);
    assert_ne!(free["text"], bound["text"]);
}

#[test]
fn timings_go_to_stderr() {
    let run = on_cpu("generate -n 5 -s 3 --show-timings Once").ok();
    for text in [
        "device",
        "seed",
        "3",
        "load",
        "first token",
        "tokens/s",
        "dispatches",
        "submits",
        "weights",
        "state",
        "scratch",
    ] {
        assert!(run.stderr.contains(text), "{text}: {}", run.stderr);
    }
    let json = on_cpu("generate -n 5 --json Once").ok().json();
    let timings = &json["timings"];
    assert_eq!(timings["generated_tokens"], 5);
    for key in ["load_seconds", "first_token_seconds", "decode_tokens_per_second", "weight_bytes", "state_bytes"] {
        assert!(timings[key].as_f64().expect(key) > 0.0, "{key}");
    }
}

#[test]
fn a_gpu_decodes_in_one_submit() {
    let json = taipan(["generate", "--json", "--device", "gpu", "-n", "4", "--temp", "0", "Once"]).ok().json();
    assert_eq!(json["timings"]["submits_per_token"], 1);
    let dispatches = json["timings"]["dispatches_per_token"].as_u64().expect("a number");
    assert!((1..=12 * 3 + 2 * 6 + 6).contains(&dispatches), "{dispatches}");
}

#[test]
fn a_model_without_tokenizer_says_so() {
    let folder = Folder::new();
    write_tiny(folder.path());
    let dir = folder.path().to_str().expect("UTF-8");
    on_cpu(&format!("generate -m {dir} Once")).fails(1, &["no tokenizer.json", "hint: "]);
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let mut child = command()
        .args(["generate", "--device", "cpu", "-n", "-1", "--ignore-eos", "Once upon a time"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    stdout.read_exact(&mut [0; 20]).expect("it prints");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_stdout_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = command();
    command.args(["generate", "--device", "cpu", "-n", "5", "Once"]).stdin(Stdio::null()).stdout(full);
    let output = command.output().expect("the program starts");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: standard output: "), "{stderr}");
}
