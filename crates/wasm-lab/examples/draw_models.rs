//! Writes the small models of the validation, each a folder with `config.json`, `model.safetensors` and `case.json`: what
//! `tests/golden/make_lab.py` reads.
//!
//! `cargo run -p taipan-wasm-lab --example draw_models -- DIR`

use std::path::PathBuf;

use taipan_wasm_lab::{MADE, MODELS, prompt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: draw_models DIR")?);
    for spec in MODELS {
        let dir = out.join(spec.name);
        std::fs::create_dir_all(&dir)?;
        let files = spec.files()?;
        std::fs::write(dir.join("config.json"), &files.config)?;
        for (name, bytes) in &files.weights {
            std::fs::write(dir.join(name), bytes)?;
        }
        let case = serde_json::json!({ "prompt": prompt(), "made": MADE, "bound": spec.bound() });
        std::fs::write(dir.join("case.json"), case.to_string())?;
    }
    Ok(())
}
