//! Ctrl-C.
#![cfg(unix)]

use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Folder, command, on_cpu, read_model_file};

fn press_ctrl_c(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
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
    press_ctrl_c(&child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), &b""[..]));
    let left: Vec<_> = std::fs::read_dir(folder.at("out")).expect("it exists").collect();
    assert!(left.is_empty(), "{left:?}");
}
