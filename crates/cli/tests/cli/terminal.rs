//! What a person sees on a terminal.
#![cfg(target_os = "linux")]

use std::process::{Command, Stdio};

use crate::common::{Folder, read_model_file};

#[test]
fn the_bar_of_progress_erases_nothing_that_was_printed() {
    let folder = Folder::new();
    // Reading this takes longer than the second after which a bar appears.
    let text = String::from_utf8(read_model_file("heldout.txt")).expect("it is text");
    let cut = text.char_indices().nth(40_000).map_or(text.len(), |(at, _)| at);
    let end = "and this is the last line.";
    let file = folder.write("prompt", format!("{}{end}", &text[..cut]));
    let line = format!("{} generate --device cpu --temp 0 -n 3 -f {file}", env!("CARGO_BIN_EXE_taipan"));
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("util-linux has `script`");
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{seen}");
    assert!(seen.contains("reading"), "no bar appeared; the prompt is too short for this machine");
    let at = seen.rfind(end).expect("the prompt is printed");
    assert!(!seen[at..].contains(['\u{1b}']), "{:?}", &seen[at..]);
}
