//! Golden cases: made afresh by `tests/golden/make_taipan_fixtures.py`, which knows nothing of this code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use taipan::{AttentionBound, Weights};

/// One case folder.
pub struct Case {
    /// Its name.
    pub name: String,
    /// The checkpoint.
    pub dir: PathBuf,
    /// Hard bound, if the case has one.
    pub bound: Option<AttentionBound>,
    /// The same as the file says it: share and burst.
    pub bound_numbers: Option<(f64, f64)>,
    /// Prompts by length.
    pub prompts: Vec<Prompt>,
}

/// One prompt with everything that is known about it.
pub struct Prompt {
    /// Token ids.
    pub ids: Vec<u32>,
    /// `[ids, vocab]`.
    pub logits: Vec<f32>,
    /// `[layers, ids]`.
    pub mask: Vec<u8>,
    /// `[layers, ids]`.
    pub alpha: Vec<f32>,
    /// Greedy continuation.
    pub greedy: Vec<u32>,
}

/// Makes (once per test run) and reads the cases of a seed.
///
/// # Panics
/// If the script cannot run: it needs Python with numpy and safetensors (`cargo xtask setup` installs them).
#[must_use]
pub fn cases(seed: u64) -> Vec<Case> {
    let cases = all(&make(&format!("seed-{seed}"), &["--seed", &seed.to_string()]));
    assert!(cases.len() >= 9, "{} cases", cases.len());
    cases
}

/// The committed cases of small models, which the demo page fetches: seed 1.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn small_cases() -> Vec<Case> {
    committed("golden/taipan")
}

/// The same, made afresh.
///
/// # Panics
/// If the script cannot run.
#[must_use]
pub fn fresh_small_cases() -> Vec<Case> {
    all(&make("small", &["--small"]))
}

/// The committed cases of the Mamba-2 family, made by `tests/golden/family/make.py` with transformers.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn family_cases() -> Vec<Case> {
    committed("golden/family/seed-1")
}

/// The committed GGUF files, made by `tests/golden/gguf/make.py`.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn gguf_cases() -> Vec<Case> {
    committed("golden/gguf/cases")
}

fn committed(dir: &str) -> Vec<Case> {
    all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir))
}

fn all(dir: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = std::fs::read_dir(dir).unwrap().map(|e| read(&e.unwrap().path())).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Runs the script, once for each version of it.
fn make(name: &str, arguments: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let script = root.join("tests/golden/make_taipan_fixtures.py");
    // Files of an older script lie in another folder.
    let hash = Sha256::digest(std::fs::read(&script).unwrap());
    let version: String = hash[..6].iter().map(|b| format!("{b:02x}")).collect();
    let dir = root.join(format!("target/golden/{version}/{name}"));
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock();
    if !dir.is_dir() {
        let venv = root.join("target/golden-venv");
        // The second is where Windows keeps it.
        let python = ["bin/python", "Scripts/python.exe"].map(|p| venv.join(p)).into_iter().find(|p| p.is_file());
        let python = python.unwrap_or_else(|| PathBuf::from(if cfg!(windows) { "python" } else { "python3" }));
        // Made beside and renamed: another test binary may be doing the same.
        let fresh = dir.with_extension(std::process::id().to_string());
        let output = std::process::Command::new(python).arg(script).arg(&fresh).args(arguments).output();
        let output = output.expect("python3 runs");
        assert!(output.status.success(), "golden files: {}", String::from_utf8_lossy(&output.stderr));
        if std::fs::rename(&fresh, &dir).is_err() {
            std::fs::remove_dir_all(&fresh).unwrap();
        }
    }
    dir
}

fn read(dir: &Path) -> Case {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("golden.json")).unwrap()).unwrap();
    let bound = &json["options"]["attention_bound"];
    let number = |key: &str| bound[key].as_f64().unwrap();
    let bound_numbers = (!bound.is_null()).then(|| (number("attention_budget"), number("burst")));
    let bound = bound_numbers.map(|(c, burst)| AttentionBound::new(c, burst).unwrap());
    let tensors = Weights::open_file(&dir.join("golden.safetensors")).unwrap();
    let prompts: BTreeMap<String, serde_json::Value> = serde_json::from_value(json["prompts"].clone()).unwrap();
    let prompts = prompts.iter().map(|(key, meta)| prompt(&tensors, key, meta)).collect();
    let name = dir.file_name().unwrap().to_string_lossy().into_owned();
    Case { name, dir: dir.to_owned(), bound, bound_numbers, prompts }
}

fn prompt(tensors: &Weights, key: &str, meta: &serde_json::Value) -> Prompt {
    let f32s = |name: &str| tensors.get(&format!("{key}.{name}")).map(|t| t.to_vec_f32());
    let (_, ids) = tensors.get_raw(&format!("{key}.ids")).unwrap();
    let ids = ids.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
    let mask = tensors.get_raw(&format!("{key}.mask")).map_or_else(|_| Vec::new(), |(_, bytes)| bytes.to_vec());
    let greedy = meta["greedy"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
    Prompt { ids, logits: f32s("logits").unwrap(), mask, alpha: f32s("alpha").unwrap_or_default(), greedy }
}
