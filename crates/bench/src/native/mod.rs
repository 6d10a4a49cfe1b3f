//! What only a program on an operating system has: arguments, files, the host's name, a progress bar.

mod args;
mod host;
mod run;

use std::path::PathBuf;

pub use args::{BenchArgs, Format, Line, On, Sub, TargetArgs};
pub use run::run;

/// What stopped a benchmark.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Arguments make no sense.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The library refused.
    #[error(transparent)]
    Library(#[from] taipan::Error),
    /// A file or a stream failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of results is not one.
    #[error("{}: {problem}", path.display())]
    Results {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Kernels differ from the CPU by more than their tolerance; the table has been printed.
    #[error("{count} kernels do not match the CPU")]
    Mismatch {
        /// How many.
        count: usize,
    },
}

impl Error {
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Library(error) => error.hint(),
            Self::Io { .. } => Some("check the path and its permissions".to_owned()),
            Self::Results { .. } => {
                Some("files of results are written by `taipan bench -o json` or `-o jsonl`".to_owned())
            }
            Self::Mismatch { .. } => Some("`taipan validate --kernels` says where".to_owned()),
        }
    }
}

/// `Result` of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
