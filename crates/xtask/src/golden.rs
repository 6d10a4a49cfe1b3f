//! Golden files: checkpoints with their expected results, computed by a numpy script that shares nothing with our code.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{process::run, project::Project, setup};

/// Seeds that the tests read; any other seed must pass as well.
pub(crate) const TEST_SEEDS: [u64; 3] = [1, 2, 3];

/// Writes one folder per case, by default where the tests look for this seed.
pub(crate) fn golden(project: &Project, seed: u64, out: Option<PathBuf>) -> Result<()> {
    setup::python(project)?;
    let out = out.unwrap_or_else(|| folder(project).join(format!("seed-{seed}")));
    let script = "tests/golden/make_taipan_fixtures.py";
    run(Command::new(setup::venv_python(project)).arg(script).arg(out).arg("--seed").arg(seed.to_string()))
}

/// Makes the files of all test seeds afresh, so that none of an older script is left.
pub(crate) fn for_tests(project: &Project) -> Result<()> {
    if folder(project).exists() {
        std::fs::remove_dir_all(folder(project))?;
    }
    TEST_SEEDS.iter().try_for_each(|seed| golden(project, *seed, None))
}

fn folder(project: &Project) -> PathBuf {
    project.made().join("golden")
}
