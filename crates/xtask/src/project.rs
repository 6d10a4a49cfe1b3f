//! Where things are: the root of the workspace, cargo's target folder, packages and their examples.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{cargo, output_of};

/// The workspace as cargo describes it.
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) examples: Vec<String>,
}

impl Project {
    /// Asks cargo, and makes the root the current folder of this process and so of every command it runs.
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let manifest = manifest.to_str().context("the path of the workspace is not UTF-8")?;
        let text =
            output_of(&mut cargo(&["metadata", "--no-deps", "--format-version=1", "--manifest-path", manifest]))?;
        let project = Self::parse(&text).context("cargo metadata printed something unexpected")?;
        std::env::set_current_dir(&project.root)?;
        Ok(project)
    }

    fn parse(metadata: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(metadata)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a string is missing");
        let list = |value: &Value| value.as_array().cloned().context("a list is missing");
        let mut packages = Vec::new();
        for package in list(&value["packages"])? {
            let mut examples = Vec::new();
            for target in list(&package["targets"])? {
                if target["kind"][0] == "example" {
                    examples.push(text(&target["name"])?);
                }
            }
            packages.push(Package { name: text(&package["name"])?, examples });
        }
        Ok(Self {
            root: text(&value["workspace_root"])?.into(),
            target: text(&value["target_directory"])?.into(),
            packages,
        })
    }

    /// A program that the build step made, in the one profile that all steps use.
    pub(crate) fn built(&self, name: &str) -> Command {
        Command::new(self.target.join("debug").join(name).with_extension(std::env::consts::EXE_EXTENSION))
    }

    /// Folder of files that tasks make, whatever `CARGO_TARGET_DIR` says: tests find it relative to their sources.
    pub(crate) fn made(&self) -> PathBuf {
        self.root.join("target")
    }

    /// All files that are or could be committed, as paths relative to the root with `/` between the parts.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut git = Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        let output = output_of(&mut git)?;
        // A file that was deleted but not yet committed is still listed.
        let exists = |path: &&str| !path.is_empty() && self.root.join(path).is_file();
        Ok(output.split('\0').filter(exists).map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read() {
        let project = Project::parse(
            r#"{"workspace_root": "/w", "target_directory": "/t", "packages": [{"name": "a", "targets": [
                {"kind": ["lib"], "name": "a"}, {"kind": ["example"], "name": "first"}]}]}"#,
        )
        .expect("valid metadata");
        assert_eq!(project.packages[0].name, "a");
        assert_eq!(project.packages[0].examples, ["first"]);
        assert!(Project::parse(r#"{"packages": []}"#).is_err());
    }
}
