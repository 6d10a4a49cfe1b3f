//! Models that do not fit the memory there is.
#![cfg(target_os = "linux")]

use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::{Folder, Run, tiny_config, write_model, write_zeros};

/// Runs the program with so many KiB of address space.
fn within(kib: u64, args: &[&str]) -> Run {
    let program = env!("CARGO_BIN_EXE_taipan");
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {kib} && exec \"$0\" \"$@\""), program])
        .args(args)
        .args(["--device", "cpu"])
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
}

#[test]
fn weights_that_do_not_fit_are_an_error() {
    let folder = Folder::new();
    let mut config = tiny_config();
    config["vocab_size"] = json!(1 << 22);
    config["hidden_size"] = json!(64);
    write_zeros(folder.path(), &config);
    std::fs::create_dir(folder.at("out")).expect("the test folder is writable");
    let (dir, out) = (folder.path().display().to_string(), folder.at("out/logits"));
    // The file is mapped, 512 MiB; as f32 its numbers are twice as large.
    let run = within(1_200_000, &["logits", "-m", &dir, "--dtype", "f32", "--ids", "1", "-o", &out]);
    let bytes = (4u64 << 22) * 64;
    run.fails(1, &[&format!("out of memory while allocating {bytes} bytes: embedding.weight"), "hint: "]);
    assert_eq!(std::fs::read_dir(folder.at("out")).expect("it exists").count(), 0);
}

#[test]
fn a_session_that_does_not_fit_is_an_error() {
    let folder = Folder::new();
    let mut config = tiny_config();
    config["selective_attention"]["window"] = json!(1 << 20);
    config["selective_attention"]["num_heads"] = json!(16);
    write_model(folder.path(), &config);
    let dir = folder.path().display().to_string();
    // A million keys and values of 16 heads of 8 floats are 1 GiB.
    let run = within(1_000_000, &["logits", "-m", &dir, "--ids", "1", "-o", &folder.at("out")]);
    run.fails(1, &["out of memory while allocating 1073741824 bytes: buffer `layers.1.window`", "hint: "]);
    assert_eq!(folder.list().len(), 2, "{:?}", folder.list());
}
