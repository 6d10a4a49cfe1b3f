//! A step of the checks as a process of its own, so that it can run beside others.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::Skipped;
use crate::project::Project;

/// How the output of the checks begins a line about what was left out.
pub(super) const SKIPPED: &str = "  skipped: ";

/// Lines of its output that are shown where all went well.
const SHOWN: usize = 12;

pub(super) struct Beside {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Beside {
    /// Runs one step of the checks; what it prints goes to a file.
    pub(super) fn start(project: &Project, name: &'static str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ci", name]);
        Self::spawn(command, name, project.target.join(format!("ci-{name}.log")))
    }

    fn spawn(mut command: Command, name: &'static str, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        println!("beside the steps that follow; what it prints is in {}", log.display());
        Ok(Self { name, child: command.spawn().context("cannot start a step")?, log })
    }

    /// Whether it has ended, and not well.
    pub(super) fn has_failed(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(status)) if !status.success())
    }

    /// Waits for it, shows the end of what it printed, or all where it failed, and returns what it left out.
    pub(super) fn end(mut self) -> Result<Skipped> {
        let status = self.child.wait()?;
        let text = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let from = if status.success() { lines.len().saturating_sub(SHOWN) } else { 0 };
        println!("\n=== {}, which ran beside the others ===\n{}", self.name, lines[from..].join("\n"));
        ensure!(status.success(), "it ended with {status}");
        Ok(lines.iter().filter_map(|line| line.strip_prefix(SKIPPED)).map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> Result<(Beside, PathBuf)> {
        let log = std::env::temp_dir().join(format!("taipan-beside-{}-{}", std::process::id(), script.len()));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Ok((Beside::spawn(command, "some step", log.clone())?, log))
    }

    fn end_of(script: &str) -> Result<Skipped> {
        let (beside, log) = start(script)?;
        let ended = beside.end();
        fs::remove_file(log)?;
        ended
    }

    #[test]
    fn what_it_left_out_and_how_it_ended_are_known() {
        assert_eq!(end_of("echo ran; echo '  skipped: half of it'").expect("it ends well"), ["half of it"]);
        let (mut beside, log) = start("read line || exit 4").expect("it starts");
        while !beside.has_failed() {
            std::thread::yield_now();
        }
        assert!(beside.end().is_err());
        fs::remove_file(log).expect("a log");
        let (mut beside, log) = start("sleep 0.05; exit 0").expect("it starts");
        assert!(!beside.has_failed());
        beside.child.wait().expect("it ends");
        assert!(!beside.has_failed());
        fs::remove_file(log).expect("a log");
        let error = end_of("echo broken >&2; exit 3").expect_err("it fails");
        assert!(error.to_string().contains('3'), "{error}");
    }
}
