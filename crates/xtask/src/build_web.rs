//! The web build: `crates/wasm` and `crates/wasm-lab` compiled to wasm32, their JavaScript made by wasm-bindgen
//! (`web/dist/wasm`, `web/dist/lab`), the npm package (`web/dist`), and the page with the embedded model (`web/site`). The
//! page can then be served as static files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};
use wasm_bindgen_cli_support::Bindgen;

use crate::{
    process::{cargo, run},
    project::Project,
    setup,
};

/// What the page downloads of `crates/cli/model`: the model, and texts that another implementation made with it.
const MODEL_FILES: [&str; 4] = ["config.json", "model.safetensors", "tokenizer.json", "greedy.json"];

/// A crate that becomes a module.
struct Module {
    package: &'static str,
    /// Name of what wasm-bindgen makes: `taipan.js`, `taipan.d.ts`, `taipan_bg.wasm`.
    name: &'static str,
    folder: &'static str,
}

const MODULES: [Module; 2] = [
    Module { package: "taipan-wasm", name: "taipan", folder: "web/dist/wasm" },
    Module { package: "taipan-wasm-lab", name: "lab", folder: "web/dist/lab" },
];

/// Builds the package and the page.
pub(crate) fn build_web(project: &Project) -> Result<()> {
    setup::npm_packages(project, "web")?;
    // What makes a module small takes one core as long as the compiler takes, which meanwhile makes the next one.
    std::thread::scope(|scope| {
        let mut bound = Vec::new();
        for module in &MODULES {
            let compiled = compile(project, module)?;
            let compiled = Compiled { content: fs::read(&compiled)?, path: compiled };
            bound.push(scope.spawn(move || bind(project, compiled, module)));
        }
        bound.into_iter().try_for_each(|thread| thread.join().expect("it returns its errors"))
    })?;
    run(setup::npm().args(["run", "--silent", "build"]).current_dir("web"))?;
    copy_model()?;
    println!("web/site is ready: npm --prefix web start serves it");
    Ok(())
}

/// What the compiler made: read at once, because the next compilation may put the crate that both share there anew.
struct Compiled {
    path: PathBuf,
    content: Vec<u8>,
}

/// Compiles a crate with the profile that is made for size; by itself, because together they would share features.
fn compile(project: &Project, module: &Module) -> Result<PathBuf> {
    ensure!(setup::has_target(setup::WASM), "missing: the target {0}\n\nhint: rustup target add {0}", setup::WASM);
    let mut build = cargo(&["build", "--package", module.package, "--profile=wasm", "--target", setup::WASM]);
    run(build.arg("--config").arg(flags()))?;
    let file = format!("{}.wasm", module.package.replace('-', "_"));
    Ok(project.target.join(setup::WASM).join("wasm").join(file))
}

/// Every browser that has WebGPU has the vector instructions, for which the CPU device is written.
/// Messages of panics name source files, which must not tell where somebody keeps them.
fn flags() -> String {
    let mut flags = vec!["-Ctarget-feature=+simd128".to_owned()];
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    if let Some(home) = home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    // A list of strings is the same in JSON and in TOML.
    format!("target.{}.rustflags={}", setup::WASM, serde_json::json!(flags))
}

/// Makes the JavaScript and its types, and optimises the module, unless that was done already. Both modules are linked anew
/// every time, because they share a crate with other features; so what tells is the content.
fn bind(project: &Project, compiled: Compiled, module: &Module) -> Result<()> {
    let dir = Path::new(module.folder); // the root is the current folder
    let result = dir.join(format!("{}_bg.wasm", module.name));
    // This program knows how to do it, so a new one does it again.
    let stamp = project.target.join(format!("{}-bound", module.name));
    let content = hex(&compiled.content);
    let bound = fs::read_to_string(&stamp).is_ok_and(|of| of == content);
    if bound && is_newer(&result, &std::env::current_exe()?) {
        println!("{} is up to date", result.display());
        return Ok(());
    }
    println!("wasm-bindgen: {} -> {}", compiled.path.display(), dir.display());
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    let mut bindgen = Bindgen::new();
    // The script finds the module beside itself unless it is told otherwise.
    bindgen
        .input_bytes(module.name, compiled.content)
        .out_name(module.name)
        .typescript(true)
        .omit_default_module_path(false);
    bindgen.web(true).map_err(reason)?;
    bindgen.generate(dir).map_err(reason).context("wasm-bindgen failed")?;
    optimise(&result)?;
    Ok(fs::write(stamp, content)?)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn reason(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error:#}")
}

/// Runs wasm-opt of the npm package `binaryen`. The result appears whole or not at all, because it says "up to date".
fn optimise(module: &Path) -> Result<()> {
    let tool = "web/node_modules/binaryen/bin/wasm-opt";
    let raw = module.with_extension("raw");
    fs::rename(module, &raw)?;
    let temporary = module.with_extension("tmp");
    // The module says itself which extensions of WebAssembly it uses.
    // A second round finds a little more, and the module is near what it may weigh.
    let rounds = ["-Oz", "--strip-debug", "--strip-producers", "--gufa", "-Oz"];
    run(Command::new("node").arg(tool).args(rounds).arg(&raw).arg("-o").arg(&temporary))?;
    let (before, after) = (fs::metadata(&raw)?.len(), fs::metadata(&temporary)?.len());
    println!("wasm-opt: {before} -> {after} bytes");
    fs::remove_file(raw)?;
    fs::rename(temporary, module)?;
    Ok(())
}

/// Whether both are there and the first is at least as new.
fn is_newer(made: &Path, source: &Path) -> bool {
    let time = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    matches!((time(made), time(source)), (Some(made), Some(source)) if made >= source)
}

/// Puts the model that the program embeds beside the page, with sizes and hashes to check downloads by.
fn copy_model() -> Result<()> {
    let (from, to) = (Path::new("crates/cli/model"), Path::new("web/site/model"));
    fs::create_dir_all(to)?;
    let mut list = serde_json::Map::new();
    for file in MODEL_FILES {
        let bytes = fs::read(from.join(file)).with_context(|| format!("cannot read {file} of the embedded model"))?;
        list.insert(file.to_owned(), serde_json::json!({ "size": bytes.len(), "sha256": hex(&bytes) }));
        fs::write(to.join(file), bytes)?;
    }
    fs::write(to.join("model-manifest.json"), serde_json::json!({ "files": list }).to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_older_is_made_again() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (there, missing) = (here.join("Cargo.toml"), here.join("no-such-file"));
        assert!(is_newer(&there, &there));
        assert!(!is_newer(&missing, &there) && !is_newer(&there, &missing));
    }

    #[test]
    fn the_flags_are_one_value_of_cargo_config() {
        let flags = flags();
        assert!(flags.starts_with("target.wasm32-unknown-unknown.rustflags=[\"-Ctarget-feature=+simd128\""), "{flags}");
        assert!(flags.ends_with(']'), "{flags}");
    }
}
