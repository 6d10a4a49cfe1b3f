//! Why a command did not succeed, what it prints for that, and the exit code.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Result of everything in this program.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments make no sense, in a way that clap cannot see.
    Usage { message: String, hint: String },
    /// The library refused.
    Library(taipan::Error),
    /// The library refused something that its message does not name.
    Within { what: String, error: Box<taipan::Error> },
    /// The hub or its cache refused.
    Hub(taipan_hub::Error),
    /// A device was demanded, and there is none.
    NoGpu(taipan::Error),
    /// Input that must be text is not.
    NotUtf8 { name: String, offset: u64 },
    /// Input that can be read but not used.
    Input { message: String, hint: String },
    /// A golden case is malformed.
    Case { path: PathBuf, problem: String },
    /// Standard input or output failed.
    Stream { name: &'static str, source: io::Error },
    /// Results differ; what differs is printed already.
    Mismatch,
    /// The user pressed Ctrl-C; what there is is printed already.
    Interrupted,
}

impl From<taipan::Error> for Failure {
    fn from(error: taipan::Error) -> Self {
        Failure::Library(error)
    }
}

impl From<taipan_hub::Error> for Failure {
    fn from(error: taipan_hub::Error) -> Self {
        match error {
            taipan_hub::Error::Stopped => Failure::Interrupted,
            error => Failure::Hub(error),
        }
    }
}

impl Failure {
    /// A usage error.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Usage { message: message.into(), hint: hint.into() }
    }

    /// A file could not be read.
    pub(crate) fn read(path: impl Into<PathBuf>, source: io::Error) -> Failure {
        Failure::Library(taipan::Error::Io { action: "read", path: path.into(), source })
    }

    /// The library refused something about a folder, which its message may name already.
    pub(crate) fn within(folder: &Path, error: taipan::Error) -> Failure {
        let what = folder.display().to_string();
        if error.to_string().contains(&what) {
            Failure::Library(error)
        } else {
            Failure::Within { what, error: Box::new(error) }
        }
    }

    /// Standard output failed.
    pub(crate) fn stdout(source: io::Error) -> Failure {
        Failure::Stream { name: "standard output", source }
    }

    /// What went wrong, in a line; `None` where nothing is left to say.
    fn message(&self) -> Option<String> {
        Some(match self {
            Failure::Usage { message, .. } | Failure::Input { message, .. } => message.clone(),
            Failure::Library(error) | Failure::NoGpu(error) => error.to_string(),
            Failure::Within { what, error } => format!("{what}: {error}"),
            Failure::Hub(error) => error.to_string(),
            Failure::NotUtf8 { name, offset } => format!("{name} is not valid UTF-8 at byte {offset}"),
            Failure::Case { path, problem } => format!("{}: {problem}", path.display()),
            Failure::Stream { name, source } => format!("{name}: {source}"),
            Failure::Mismatch | Failure::Interrupted => return None,
        })
    }

    /// What to do about it.
    fn hint(&self) -> Option<String> {
        let text = match self {
            Failure::Usage { hint, .. } | Failure::Input { hint, .. } => hint,
            Failure::Library(error) => return error.hint(),
            Failure::Within { error, .. } => return error.hint(),
            Failure::Hub(error) => return error.hint(),
            Failure::NoGpu(_) => "`taipan devices` lists what is there; `--device cpu` always works",
            Failure::NotUtf8 { .. } => "convert it to UTF-8, for instance with iconv",
            Failure::Case { .. } => {
                "a case is a folder with config.json, model.safetensors, golden.json and golden.safetensors"
            }
            Failure::Stream { .. } | Failure::Mismatch | Failure::Interrupted => return None,
        };
        Some(text.to_owned())
    }

    /// A stable identifier of the kind of failure, for programs; the library's own where it is the library that failed.
    fn kind(&self) -> &'static str {
        match self {
            Failure::Usage { .. } => "usage",
            Failure::Library(error) | Failure::NoGpu(error) => error.code(),
            Failure::Within { error, .. } => error.code(),
            Failure::Hub(error) => error.code(),
            Failure::NotUtf8 { .. } => "not-utf8",
            Failure::Input { .. } => "input",
            Failure::Case { .. } => "case-invalid",
            Failure::Stream { .. } => "io",
            Failure::Mismatch => "mismatch",
            Failure::Interrupted => "interrupted",
        }
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Usage { .. } => 2,
            Failure::NoGpu(_) => 3,
            Failure::Mismatch => 4,
            Failure::Interrupted => 130,
            _ => 1,
        }
    }

    /// Whether the reader of our output went away, which is how `taipan … | head` ends.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Stream { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Prints what there is to say about the result, with `json` on standard output too, and turns it into the exit code.
pub(crate) fn exit_code(result: Result<()>, json: bool) -> ExitCode {
    let failure = match result {
        Err(failure) if !failure.is_closed_pipe() => failure,
        _ => return ExitCode::SUCCESS,
    };
    let (message, hint) = (failure.message(), failure.hint());
    // After a mismatch or Ctrl-C the report is there, and says so, unless nothing was done yet.
    if json && !crate::output::has_json() {
        let message = message.clone().unwrap_or_else(|| failure.kind().to_owned());
        print_json_error(failure.kind(), &message, hint.as_deref());
    }
    if let Some(message) = message {
        crate::output::note(&format!("error: {message}"));
        if let Some(hint) = hint {
            crate::output::note(&format!("\nhint: {hint}"));
        }
    }
    ExitCode::from(failure.code())
}

/// The form that every command with `--json` gives a failure. If standard output is what failed, stderr still tells.
pub(crate) fn print_json_error(code: &str, message: &str, hint: Option<&str>) {
    let error = serde_json::json!({ "error": { "code": code, "message": message, "hint": hint } });
    let _ = crate::output::json(&error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_help() {
        let no_adapter = || taipan::Error::NoAdapter { wanted: "any".to_owned(), found: Vec::new() };
        assert_eq!(Failure::usage("a", "b").code(), 2);
        assert_eq!(Failure::NoGpu(no_adapter()).code(), 3);
        assert_eq!(Failure::Mismatch.code(), 4);
        assert_eq!(Failure::Interrupted.code(), 130);
        assert_eq!(Failure::Library(no_adapter()).code(), 1);
        assert_eq!(Failure::stdout(io::ErrorKind::StorageFull.into()).code(), 1);
    }

    #[test]
    fn only_a_closed_pipe_is_quiet() {
        assert!(Failure::stdout(io::ErrorKind::BrokenPipe.into()).is_closed_pipe());
        assert!(!Failure::stdout(io::ErrorKind::StorageFull.into()).is_closed_pipe());
    }
}
