//! Installs what the checks need, and says how to where it cannot. Everything here may be run again at no cost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};

use crate::{
    process::{output_of, run, succeeds},
    project::Project,
};

pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Folder of the npm package that brings Dawn.
pub(crate) const DAWN: &str = "tests/dawn";

/// Systems that are type-checked from here where their standard library can be installed.
pub(crate) const FOREIGN: [&str; 2] = ["x86_64-pc-windows-msvc", "aarch64-apple-darwin"];

/// Brings everything that is missing; the result names what is optional and could not be had.
pub(crate) fn setup(project: &Project) -> Result<Vec<String>> {
    system_packages()?;
    wasm_target()?;
    python(project)?;
    npm_packages(project, DAWN)?;
    let missing = FOREIGN.iter().filter(|target| !add_target(target));
    let mut missing: Vec<String> = missing.map(|target| format!("cannot install the target {target}")).collect();
    missing.extend(browser());
    Ok(missing)
}

/// Something of the system that the checks need, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    debian: &'static [&'static str],
    present: fn() -> bool,
}

const NEEDS: [Need; 4] = [
    Need { what: "a Vulkan driver", debian: &["mesa-vulkan-drivers"], present: has_vulkan_driver },
    Need { what: "the Vulkan loader", debian: &["libvulkan1"], present: has_vulkan_loader },
    Need { what: "Python 3.11 or later with venv", debian: &["python3", "python3-venv"], present: has_python },
    Need { what: "Node.js 20 or later with npm", debian: &["nodejs", "npm"], present: has_node },
];

fn system_packages() -> Result<()> {
    let missing = || NEEDS.iter().filter(|need| !(need.present)()).collect::<Vec<_>>();
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    let what = before.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = before.iter().flat_map(|need| need.debian).copied().collect();
    ensure!(
        succeeds(Command::new("apt-get").arg("--version")),
        "missing: {what}\n\nhint: install it, then run this again"
    );
    if !is_root() {
        bail!("missing: {what}\n\nhint: {}", apt_line(&packages));
    }
    run(Command::new("apt-get").arg("update"))?;
    let mut install = Command::new("apt-get");
    run(install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    let after = missing();
    let what = after.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    ensure!(after.is_empty(), "still missing after `{}`: {what}", apt_line(&packages));
    Ok(())
}

/// The browser of the page's test: installed where that is one command, and left to people elsewhere. What is missing.
fn browser() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let has_browser = || names.iter().any(|name| succeeds(Command::new(name).arg("--version")));
    // Elsewhere it is an application, which the test itself looks for.
    if !cfg!(target_os = "linux") || std::env::var_os("CHROME_PATH").is_some() || has_browser() {
        return None;
    }
    if is_root() {
        let mut install = Command::new("apt-get");
        install.args(["install", "--yes", "--no-install-recommends", "chromium"]);
        let update = || run(Command::new("apt-get").arg("update"));
        // Ubuntu has a package of this name that brings no browser, so the result is what counts.
        if update().and_then(|()| run(install.env("DEBIAN_FRONTEND", "noninteractive"))).is_ok() && has_browser() {
            return None;
        }
    }
    Some(format!("cannot install Chromium: {}", apt_line(&["chromium"])))
}

/// What to type where we may not install.
fn apt_line(packages: &[&str]) -> String {
    format!("sudo apt-get update && sudo apt-get install --yes {}", packages.join(" "))
}

fn is_root() -> bool {
    output_of(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn has_vulkan_driver() -> bool {
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some());
    let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    !cfg!(target_os = "linux")
        || named
        || folders.iter().any(|dir| fs::read_dir(dir).is_ok_and(|mut dir| dir.next().is_some()))
}

fn has_vulkan_loader() -> bool {
    let arch = std::env::consts::ARCH;
    let folders =
        [format!("/usr/lib/{arch}-linux-gnu"), "/usr/lib64".into(), "/usr/lib".into(), "/usr/local/lib".into()];
    !cfg!(target_os = "linux") || folders.iter().any(|dir| Path::new(dir).join("libvulkan.so.1").exists())
}

fn has_python() -> bool {
    system_python().is_some()
}

/// A Python that can make virtual environments: Debian ships one that cannot, without python3-venv.
pub(crate) fn system_python() -> Option<&'static str> {
    let test = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    ["python3", "python"].into_iter().find(|python| succeeds(Command::new(python).args(["-c", test])))
}

fn has_node() -> bool {
    let test = "process.exit(Number(process.versions.node.split('.')[0]) < 20 ? 1 : 0)";
    succeeds(Command::new("node").args(["-e", test])) && succeeds(npm().arg("--version"))
}

pub(crate) fn npm() -> Command {
    Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

/// Makes the Python environment of the golden files: `tests/golden/requirements.txt`, pinned, under target/.
pub(crate) fn python(project: &Project) -> Result<PathBuf> {
    environment(project, "golden-venv", "tests/golden/requirements.txt", "numpy, safetensors")
}

/// Makes a Python environment under target/ from a pinned list, unless it is there; its Python.
pub(crate) fn environment(project: &Project, name: &str, requirements: &str, imports: &str) -> Result<PathBuf> {
    let venv = project.made().join(name);
    let inside = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = Stamp { wanted: requirements.into(), done: venv.join("requirements.txt") };
    // Virtual environments do not survive a move of the folder: look whether this one still works.
    if stamp.holds() && succeeds(Command::new(&inside).args(["-c", &format!("import {imports}")])) {
        return Ok(inside);
    }
    let Some(python) = system_python() else {
        bail!("missing: Python 3.11 or later with venv\n\nhint: cargo xtask setup")
    };
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(&inside);
    run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]))?;
    stamp.write()?;
    Ok(inside)
}

/// Installs the npm packages of a folder, as its lock file says. Install scripts are not run: none is needed.
pub(crate) fn npm_packages(project: &Project, folder: &str) -> Result<()> {
    let dir = project.root.join(folder);
    let stamp = Stamp { wanted: dir.join("package-lock.json"), done: dir.join("node_modules/installed-lock.json") };
    if stamp.holds() {
        return Ok(());
    }
    ensure!(has_node(), "missing: Node.js 20 or later with npm\n\nhint: cargo xtask setup");
    run(npm().args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&dir))?;
    stamp.write()
}

/// Remembers what an installation was made from: a copy of the file that lists it, put there afterwards.
pub(crate) struct Stamp {
    pub(crate) wanted: PathBuf,
    pub(crate) done: PathBuf,
}

impl Stamp {
    pub(crate) fn holds(&self) -> bool {
        let done = fs::read(&self.done);
        done.is_ok_and(|done| fs::read(&self.wanted).is_ok_and(|wanted| wanted == done))
    }

    pub(crate) fn write(&self) -> Result<()> {
        fs::copy(&self.wanted, &self.done)?;
        Ok(())
    }
}

/// The web build is a product, so its target is required, unlike the foreign systems.
fn wasm_target() -> Result<()> {
    ensure!(add_target(WASM), "missing: the target {WASM}\n\nhint: rustup target add {WASM}");
    Ok(())
}

/// Whether the target is there, after an attempt to install it.
fn add_target(target: &str) -> bool {
    if !has_target(target) {
        println!("$ rustup target add {target}");
        // Not having it is decided below, and by the caller; one try is enough where nothing can be reached.
        succeeds(Command::new("rustup").args(["target", "add", target]).env("RUSTUP_MAX_RETRIES", "0"));
    }
    has_target(target)
}

/// Whether the standard library of the target is installed, by rustup or otherwise.
pub(crate) fn has_target(target: &str) -> bool {
    let Ok(output) = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output() else {
        return false;
    };
    let dir = String::from_utf8_lossy(&output.stdout); // nothing for a target that rustc does not know
    let Ok(files) = fs::read_dir(dir.trim()) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_can_be_pasted() {
        assert_eq!(apt_line(&["a", "b"]), "sudo apt-get update && sudo apt-get install --yes a b");
    }

    #[test]
    fn a_stamp_holds_until_the_list_changes() {
        let dir = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        let stamp = Stamp { wanted: dir.join("wanted"), done: dir.join("done") };
        fs::write(&stamp.wanted, "one").expect("written");
        assert!(!stamp.holds());
        stamp.write().expect("copied");
        assert!(stamp.holds());
        fs::write(&stamp.wanted, "two").expect("written");
        assert!(!stamp.holds());
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn the_host_has_its_own_target_and_not_an_invented_one() {
        let version = output_of(Command::new("rustc").arg("-vV")).expect("rustc is there");
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host line");
        assert!(has_target(host));
        assert!(!has_target("no-such-target"));
    }
}
