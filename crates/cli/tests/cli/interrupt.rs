//! Ctrl-C.
#![cfg(unix)]

use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::common::{command, on_cpu};

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
    // Nothing is printed before the end, so nothing tells when the handler is there; the model is loaded in a moment.
    std::thread::sleep(std::time::Duration::from_secs(4));
    press_ctrl_c(&child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["finish"], "interrupted");
}
