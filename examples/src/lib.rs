//! What the examples share, which is where they find a model and how they show an error. The examples are the files
//! beside `Cargo.toml`; `README.md` lists them by purpose.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::{Path, PathBuf};

/// The model folder: the first argument, or else the small model that the program `taipan` embeds.
#[must_use]
pub fn model_dir() -> PathBuf {
    let embedded = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cli/model");
    std::env::args_os().nth(1).map_or_else(embedded, PathBuf::from)
}

/// What `main` of an example returns: `?` works on every error, and a library error ends the example with its hint.
pub type Result<T, E = Shown> = std::result::Result<T, E>;

/// An error as people should see it.
pub struct Shown(String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<taipan::Error> for Shown {
    fn from(error: taipan::Error) -> Self {
        let hint = error.hint().map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default();
        Self(format!("{error}{hint}"))
    }
}

impl From<std::io::Error> for Shown {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}
