//! Compiles every shader permutation with Dawn; naga's part of the same check is an ordinary test of the workspace.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    process::{cargo, run, run_watched},
    project::Project,
    setup,
};

/// Writes one WGSL file per permutation and hands the folder to `tests/dawn/check.mjs`; the result is what that left out.
pub(crate) fn shaders(project: &Project) -> Result<Vec<String>> {
    setup::npm_packages(project, setup::DAWN)?;
    let dir = project.made().join("shaders");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?; // a permutation that no longer exists must not be checked
    }
    std::fs::create_dir_all(&dir)?;
    let dir = dir.to_str().context("the path of the workspace is not UTF-8")?;
    let dump = ["run", "--quiet", "--package", "taipan-cases", "--example", "dump_shaders", "--", dir];
    run(&mut cargo(&dump))?;
    let mut skipped = Vec::new();
    run_watched(Command::new("node").arg("tests/dawn/check.mjs").arg(dir), |line| {
        skipped.extend(line.strip_prefix("skipped: ").map(str::to_owned));
    })?;
    Ok(skipped)
}
