//! The trainer in `examples/training`: its tests, which train a tiny model on the CPU and hold the trainer's logits to the
//! golden files and to our program.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    golden,
    process::{run, succeeds},
    project::Project,
    setup::{self, Stamp},
};

const FOLDER: &str = "examples/training";

/// Runs the tests, in an environment made from the pinned requirements.
pub(crate) fn training(project: &Project) -> Result<()> {
    python(project)?;
    let cases = project.made().join("training-golden");
    golden::golden(project, 1, Some(cases.clone()))?;
    let program = project.root.join(project.built("taipan").get_program());
    run(Command::new(venv_python(project))
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=3", FOLDER])
        .env("TAIPAN_GOLDEN", cases)
        .env("TAIPAN_PROGRAM", program)
        .env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn python(project: &Project) -> Result<()> {
    let requirements = format!("{FOLDER}/requirements.txt");
    let stamp = Stamp { wanted: requirements.clone().into(), done: venv(project).join("requirements.txt") };
    // Virtual environments do not survive a move of the folder: look whether this one still works.
    if stamp.holds() && succeeds(Command::new(venv_python(project)).args(["-c", "import torch, tokenizers, pytest"])) {
        return Ok(());
    }
    let Some(python) = setup::system_python() else {
        bail!("missing: Python 3.11 or later with venv\n\nhint: cargo xtask setup")
    };
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(venv(project)))?;
    let mut pip = Command::new(venv_python(project));
    run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", &requirements]))?;
    stamp.write()
}

fn venv(project: &Project) -> PathBuf {
    project.made().join("training-venv")
}

fn venv_python(project: &Project) -> PathBuf {
    venv(project).join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}
