//! Running other programs so that a failure names the exact command.

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, ensure};

/// The cargo that runs this task, so that a toolchain chosen with `+name` is kept.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Prints the command, runs it without input, and fails with its text unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    check(status, &line)
}

/// Like [`run`], and hands every line of standard output to `see` after printing it.
pub(crate) fn run_watched(command: &mut Command, mut see: impl FnMut(&str)) -> Result<()> {
    let line = announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let output = child.stdout.take().expect("standard output was asked for as a pipe");
    for text in BufReader::new(output).split(b'\n') {
        let text = text?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        see(&text);
    }
    check(child.wait()?, &line)
}

/// Whether the command could be started and succeeded; it prints nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The standard output of a command that must succeed.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    check(output.status, &line)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something other than UTF-8"))
}

fn announce(command: &Command) -> String {
    let line = shown(command);
    println!("$ {line}");
    line
}

fn check(status: ExitStatus, line: &str) -> Result<()> {
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// The command as a person would type it, in the folder where it runs.
fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    if let Some(dir) = command.get_current_dir() {
        words.push(format!("cd {} &&", quoted(&dir.to_string_lossy())));
    }
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        words.push(format!("{}={}", name.to_string_lossy(), quoted(&value)));
    }
    let program = command.get_program().to_string_lossy();
    // The full path of cargo says nothing; that of a program in target/ says which one.
    let is_cargo = std::env::var("CARGO").is_ok_and(|cargo| cargo == program);
    words.push(if is_cargo { "cargo".to_owned() } else { quoted(&program) });
    words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%\\".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("tool");
        command.args(["--flag", "two words"]).env("RUSTDOCFLAGS", "-D warnings").current_dir("sub");
        assert_eq!(shown(&command), "cd sub && RUSTDOCFLAGS='-D warnings' tool --flag 'two words'");
    }

    #[test]
    fn a_failure_names_the_command() {
        // A program that is surely here, fails, and says nothing.
        let differ = || {
            let mut git = Command::new("git");
            git.args(["diff", "--no-index", "--quiet", "Cargo.toml", "src/main.rs"]);
            git
        };
        assert!(succeeds(Command::new("git").arg("--version")));
        assert!(!succeeds(&mut differ()));
        let error = run(&mut differ()).expect_err("the files differ");
        assert!(error.to_string().contains("`git diff --no-index --quiet Cargo.toml src/main.rs` failed"), "{error}");
        let error = run(&mut Command::new("no-such-program-anywhere")).expect_err("there is none");
        assert!(error.to_string().contains("cannot start `no-such-program-anywhere`"), "{error}");
    }

    #[test]
    fn watched_output_arrives_line_by_line() {
        let mut lines = Vec::new();
        run_watched(Command::new("rustc").arg("-vV"), |line| lines.push(line.to_owned())).expect("rustc is there");
        assert!(lines.iter().any(|line| line.starts_with("host: ")), "{lines:?}");
    }
}
