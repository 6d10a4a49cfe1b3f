//! Running the program, and small models for it to run.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use taipan::weights::{header, serialize};
use taipan::{Config, ElementType};

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
}

impl Run {
    /// Demands an exit code.
    pub(crate) fn expect(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Demands success.
    pub(crate) fn ok(self) -> Run {
        self.expect(0)
    }

    /// Stdout as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }

    /// Demands a failure that says all this on stderr, and on stdout nothing but, with `--json`, the same.
    pub(crate) fn fails(self, code: i32, said: &[&str]) -> Run {
        let run = self.expect(code);
        if !run.stdout.is_empty() {
            let error = &run.json()["error"];
            assert!(run.stderr.contains(error["message"].as_str().expect("text")), "{run:#?}");
        }
        assert!(run.stderr.contains("error: "), "{run:#?}");
        for text in said {
            assert!(run.stderr.contains(text), "{text:?} is not in {run:#?}");
        }
        run
    }
}

/// The program.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_taipan"))
}

/// Runs the program with nothing on stdin.
pub(crate) fn taipan<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    taipan_reading(args, b"")
}

/// Runs the program with these bytes on stdin.
pub(crate) fn taipan_reading<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Run {
    let mut command = command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that does not read its input closes it.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    Run { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
}

/// The command line split at blanks, on the CPU.
pub(crate) fn on_cpu(line: &str) -> Run {
    taipan(line.split_whitespace().chain(["--device", "cpu"]))
}

/// An empty folder of one test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("the target folder is writable");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub(crate) fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("test paths are UTF-8").to_owned()
    }

    /// Writes a file, and gives its path.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.at(name);
        std::fs::write(&path, bytes).expect("the test folder is writable");
        path
    }

    /// Names of what is in it.
    pub(crate) fn list(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("it exists");
        entries.map(|e| e.expect("it is readable").file_name().into_string().expect("UTF-8")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of the embedded model.
pub(crate) fn model_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("model").join(name)
}

/// Its bytes.
pub(crate) fn read_model_file(name: &str) -> Vec<u8> {
    std::fs::read(model_file(name)).expect("it is part of this package")
}

/// Ids of the tiny model.
pub(crate) const TINY_VOCAB: usize = 50;

/// The config of a model small enough to run often.
pub(crate) fn tiny_config() -> Value {
    json!({
        "model_type": "taipan", "vocab_size": TINY_VOCAB, "hidden_size": 16,
        "layer_types": ["mamba2", "selective_attention", "mamba2"],
        "mamba2": { "d_state": 8, "d_conv": 4, "expand": 2, "head_dim": 8, "n_groups": 1 },
        "selective_attention": { "num_heads": 2, "head_dim": 8, "window": 8, "intermediate_size": 32 },
        "eos_token_id": 0
    })
}

/// Writes the tiny model, without a tokenizer, with weights that are the same every time.
pub(crate) fn write_tiny(dir: &Path) {
    write_model(dir, &tiny_config());
}

/// Writes a model with this config.
pub(crate) fn write_model(dir: &Path, config: &Value) {
    let json = config.to_string();
    let config = Config::from_json(json.as_bytes()).expect("it is valid");
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = config
        .expected_tensors()
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let bytes = (0..count).flat_map(|_| weight(&name, &shape, random()).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let tensors: Vec<_> =
        tensors.iter().map(|(n, s, b)| (n.as_str(), ElementType::F32, s.as_slice(), b.as_slice())).collect();
    std::fs::create_dir_all(dir).expect("the test folder is writable");
    std::fs::write(dir.join("config.json"), json).expect("the test folder is writable");
    std::fs::write(dir.join("model.safetensors"), serialize(&tensors)).expect("the test folder is writable");
}

/// A model of nothing but zeros, which take no room on the disk.
pub(crate) fn write_zeros(dir: &Path, config: &Value) {
    let parsed = Config::from_json(config.to_string().as_bytes()).expect("it is valid");
    let tensors = parsed.expected_tensors();
    let entries: Vec<_> = tensors.iter().map(|(name, shape)| (name.as_str(), ElementType::F16, &shape[..])).collect();
    let header = header(&entries);
    let len = header.len() as u64 + 2 * parsed.parameters();
    std::fs::create_dir_all(dir).expect("the test folder is writable");
    let mut file = std::fs::File::create(dir.join("model.safetensors")).expect("the test folder is writable");
    file.write_all(&header).and_then(|()| file.set_len(len)).expect("the test folder is writable");
    std::fs::write(dir.join("config.json"), config.to_string()).expect("the test folder is writable");
}

/// From a random number in [-1, 1) to a plausible weight.
fn weight(name: &str, shape: &[usize], random: f32) -> f32 {
    let is_norm = name.ends_with("norm.weight");
    match shape {
        _ if is_norm || name.ends_with(".D") => 1.0 + 0.1 * random,
        _ if name.ends_with("dt_bias") => random - 2.0,
        _ if name.ends_with("A_log") => 1.0 + random,
        [_, columns] => random * 2.0 / (*columns as f32).sqrt(),
        _ => 0.5 * random,
    }
}
