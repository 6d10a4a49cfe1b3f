//! Ctrl-C.
#![cfg(unix)]

use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use taipan::ElementType;
use taipan::weights::serialize;

use crate::common::{Folder, command, on_cpu, read_model_file, tiny_config, write_zeros};

fn press_ctrl_c(child: &Child) {
    send("-INT", child);
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill exists");
    assert!(status.success());
}

fn endless(args: &[&str]) -> Child {
    command()
        .args(["generate", "--temp", "0", "--device", "cpu", "-n", "-1", "--ignore-eos", "Once"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

#[test]
fn what_was_printed_is_kept() {
    let mut child = endless(&["--show-timings"]);
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut text = vec![0; 60];
    stdout.read_exact(&mut text).expect("it prints without end");
    press_ctrl_c(&child);
    stdout.read_to_end(&mut text).expect("it ends");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("submits per token") && !stderr.contains("error"), "{stderr}");

    let text = String::from_utf8(text).expect("no character is cut");
    let text = text.strip_suffix('\n').expect("the line is ended");
    let undisturbed = on_cpu(&format!("generate --temp 0 -n {} --ignore-eos Once", text.len())).ok().stdout;
    assert!(undisturbed.starts_with(text), "{text:?} is not the beginning of {undisturbed:?}");
}

#[test]
fn json_is_complete_nevertheless() {
    let child = endless(&["--json"]);
    // Nothing is printed before the end, so nothing tells when the model is loaded, which takes a moment.
    std::thread::sleep(Duration::from_secs(4));
    press_ctrl_c(&child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["finish"], "interrupted");
}

#[test]
fn perplexity_of_what_was_read_is_printed() {
    let folder = Folder::new();
    let file = folder.write("text", read_model_file("heldout.txt").repeat(200));
    let child = command()
        .args(["perplexity", "--json", "--device", "cpu", "-f", &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    std::thread::sleep(Duration::from_secs(6));
    press_ctrl_c(&child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((&json["interrupted"], json["bits_per_byte"].is_null()), (&true.into(), true), "{json}");
    assert!(json["perplexity"].as_f64().expect("a number") < 100.0, "{json}");
}

#[test]
fn logits_leave_no_file() {
    logits_stop("-INT");
}

#[test]
fn being_terminated_leaves_no_file() {
    logits_stop("-TERM");
}

fn logits_stop(signal: &str) {
    let folder = Folder::new();
    let text = folder.write("text", read_model_file("heldout.txt").repeat(20));
    let out = folder.at("out/logits.safetensors");
    std::fs::create_dir(folder.at("out")).expect("the test folder is writable");
    let mut child = command()
        .args(["logits", "--device", "cpu", "-f", &text, "-o", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let written = || -> u64 {
        let entries = std::fs::read_dir(folder.at("out")).expect("it exists");
        entries.filter_map(|e| e.ok()?.metadata().ok()).map(|m| m.len()).sum()
    };
    let start = Instant::now();
    while written() < 1 << 20 {
        assert!(start.elapsed() < Duration::from_secs(120), "nothing is written");
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(20));
    }
    send(signal, &child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), &b""[..]));
    let left: Vec<_> = std::fs::read_dir(folder.at("out")).expect("it exists").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A model that takes seconds to load, as a golden case that is compared with nothing before it is loaded.
fn slow_case(dir: &Path) {
    let mut config = tiny_config();
    config["vocab_size"] = (1 << 21).into();
    config["hidden_size"] = 64.into();
    write_zeros(dir, &config);
    let meta = serde_json::json!({
        "options": { "attention_bound": null },
        "prompts": { "1": { "length": 1, "greedy": [1], "selected": 0 } }
    });
    let (id, logit) = (1i64.to_le_bytes(), 0f32.to_le_bytes());
    let numbers = serialize(&[("1.ids", ElementType::I64, &[1], &id), ("1.logits", ElementType::F32, &[1], &logit)]);
    std::fs::write(dir.join("golden.json"), meta.to_string()).expect("the test folder is writable");
    std::fs::write(dir.join("golden.safetensors"), numbers).expect("the test folder is writable");
}

/// What a program prints, read while it runs: one that nobody reads waits, and does not end.
fn read_whole(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        stream.read_to_end(&mut bytes).expect("it is piped");
        bytes
    })
}

/// Runs a command to its end, then again with Ctrl-C after this part of the time, or the next one where that was too
/// early or too late because others slowed a run down, or because the first one filled caches, as of compiled shaders. It must
/// end long before it would have.
fn interrupted(after: &[u32], device: &str, args: &[&str]) -> Output {
    let mut command = command();
    command.args(args).args(["--device", device]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    command.spawn().expect("the program starts").wait_with_output().expect("it ends");
    let mut whole = start.elapsed();
    for part in after {
        let mut child = command.spawn().expect("the program starts");
        let stdout = read_whole(child.stdout.take().expect("it is piped"));
        let stderr = read_whole(child.stderr.take().expect("it is piped"));
        let start = Instant::now();
        let mut ended = None;
        while ended.is_none() && start.elapsed() < whole / *part {
            std::thread::sleep(Duration::from_millis(5));
            ended = child.try_wait().expect("it is ours");
        }
        if ended.is_some() {
            whole = start.elapsed();
            eprintln!("it took {whole:?} this time");
            continue;
        }
        press_ctrl_c(&child);
        let start = Instant::now();
        let status = child.wait().expect("it ends");
        let (code, time) = (status.code(), start.elapsed());
        eprintln!("after 1/{part} of {whole:?}: {code:?} in {time:?}");
        if code == Some(130) && time < whole / 2 {
            let [stdout, stderr] = [stdout, stderr].map(|bytes| bytes.join().expect("it was read"));
            return Output { status, stdout, stderr };
        }
    }
    panic!("it does not stop soon");
}

#[test]
fn loading_stops() {
    let folder = Folder::new();
    slow_case(folder.path());
    let (dir, out) = (folder.path().display().to_string(), folder.at("logits"));
    let output = interrupted(&[12, 10, 8], "cpu", &["logits", "-m", &dir, "--ids", "1", "-o", &out]);
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b""[..]));
    // The one is of the run that was not interrupted.
    let beside: Vec<_> = folder.list().into_iter().filter(|name| name.contains("logits")).collect();
    assert_eq!(beside, ["logits"]);
}

#[test]
fn nothing_validated_is_nothing_passed() {
    let folder = Folder::new();
    slow_case(folder.path());
    let output =
        interrupted(&[12, 8, 6, 5, 4, 3], "cpu", &["validate", "--json", &folder.path().display().to_string()]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((&json["passed"], &json["interrupted"]), (&false.into(), &true.into()), "{json}");
    assert_eq!(json["prompts"].as_array().map(Vec::len), Some(0), "{json}");
}

#[test]
fn kernels_that_were_not_validated_did_not_pass() {
    let output = interrupted(&[3, 6, 9], "gpu", &["validate", "--kernels", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((&json["passed"], &json["interrupted"]), (&false.into(), &true.into()), "{json}");
}

#[test]
fn a_long_prompt_stops_while_it_is_read() {
    let folder = Folder::new();
    // One piece of the prompt takes this model seconds.
    let mut config = tiny_config();
    config["hidden_size"] = 1024.into();
    config["mamba2"]["head_dim"] = 64.into();
    config["layer_types"] = vec!["mamba2"; 6].into();
    write_zeros(folder.path(), &config);
    let ids = vec!["1"; 512].join(",");
    let dir = folder.path().display().to_string();
    interrupted(&[2, 2, 3], "cpu", &["logits", "-m", &dir, "--ids", &ids, "-o", &folder.at("out")]);
}

#[test]
fn a_long_file_stops_while_it_is_encoded() {
    let folder = Folder::new();
    // Reading it takes minutes, encoding it many seconds.
    let text = read_model_file("heldout.txt");
    let file = folder.write("text", text.repeat((48 << 20) / text.len()));
    let mut command = command();
    command.args(["generate", "--device", "cpu", "-f", &file]).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
    std::thread::sleep(Duration::from_secs(3));
    press_ctrl_c(&child);
    let start = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(130), &b""[..]));
    assert!(start.elapsed() < Duration::from_secs(2), "it went on for {:?}", start.elapsed());
}
