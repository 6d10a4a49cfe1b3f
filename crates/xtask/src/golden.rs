//! Golden files: checkpoints with their expected results, computed by scripts that share nothing with our code.

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::{process::run, project::Project, setup};

/// Seeds that the tests read; any other seed must pass as well.
pub(crate) const TEST_SEEDS: [u64; 3] = [1, 2, 3];

const SCRIPT: &str = "tests/golden/make_taipan_fixtures.py"; // the root is the current folder

const FAMILY_SCRIPT: &str = "tests/golden/family/make.py";
const FAMILY_REQUIREMENTS: &str = "tests/golden/family/requirements.txt";

/// Writes one folder per case, by default where the tests look for this seed.
pub(crate) fn golden(project: &Project, seed: u64, out: Option<PathBuf>) -> Result<()> {
    let python = setup::python(project)?;
    let out = match out {
        Some(out) => out,
        None => folder(project).join(version(&std::fs::read(SCRIPT)?)).join(format!("seed-{seed}")),
    };
    run(Command::new(python).arg(SCRIPT).arg(out).arg("--seed").arg(seed.to_string()))
}

/// The same cases of smaller models. Those of one seed are part of the repository: the demo page fetches them.
pub(crate) fn small(project: &Project, seed: u64, out: Option<PathBuf>) -> Result<()> {
    let python = setup::python(project)?;
    let out = out.unwrap_or_else(|| project.made().join(format!("golden-small/seed-{seed}")));
    run(Command::new(python).arg(SCRIPT).arg(out).arg("--seed").arg(seed.to_string()).arg("--small"))
}

/// Writes one folder per case of the Mamba-2 family: tiny checkpoints as others publish them, with what transformers makes of
/// them. Those of one seed are part of the repository.
pub(crate) fn family(project: &Project, seed: u64, out: Option<PathBuf>) -> Result<()> {
    let python = setup::environment(project, "family-venv", FAMILY_REQUIREMENTS, "torch, transformers")?;
    let out = out.unwrap_or_else(|| project.made().join(format!("golden-family/seed-{seed}")));
    run(Command::new(python).arg(FAMILY_SCRIPT).arg(out).arg("--seed").arg(seed.to_string()))
}

/// Makes the files of all test seeds afresh, so that none of an older script is left.
pub(crate) fn for_tests(project: &Project) -> Result<()> {
    if folder(project).exists() {
        std::fs::remove_dir_all(folder(project))?;
    }
    TEST_SEEDS.iter().try_for_each(|seed| golden(project, *seed, None))
}

/// Names the files of one version of the script, as `tests/src/golden.rs` does: those of an older one are not found.
fn version(script: &[u8]) -> String {
    Sha256::digest(script)[..6].iter().map(|b| format!("{b:02x}")).collect()
}

fn folder(project: &Project) -> PathBuf {
    project.made().join("golden")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_script_has_another_folder() {
        assert_eq!(version(b"abc"), "ba7816bf8f01");
        assert_ne!(version(b"abd"), version(b"abc"));
    }
}
