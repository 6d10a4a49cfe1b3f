//! The trainer in `examples/training`: its tests, which train a tiny model on the CPU and hold the trainer's logits to the
//! golden files and to our program.

use std::process::Command;

use anyhow::Result;

use crate::{golden, process::run, project::Project, setup};

const FOLDER: &str = "examples/training";

/// Runs the tests, in an environment made from the pinned requirements.
pub(crate) fn training(project: &Project) -> Result<()> {
    let requirements = format!("{FOLDER}/requirements.txt");
    let python = setup::environment(project, "training-venv", &requirements, "torch, tokenizers, pytest")?;
    let cases = project.made().join("training-golden");
    golden::golden(project, 1, Some(cases.clone()))?;
    let program = project.root.join(project.built("taipan").get_program());
    run(Command::new(python)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=3", FOLDER])
        .env("TAIPAN_GOLDEN", cases)
        .env("TAIPAN_PROGRAM", program)
        .env("PYTHONDONTWRITEBYTECODE", "1"))
}
