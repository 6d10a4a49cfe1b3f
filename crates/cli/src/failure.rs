//! Why a command did not succeed, what it prints for that, and the exit code.

use std::io;
use std::path::PathBuf;
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
    Within { what: String, error: taipan::Error },
    /// A device was demanded, and there is none.
    NoGpu(taipan::Error),
    /// A file could not be read.
    Read { path: PathBuf, source: io::Error },
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

impl Failure {
    /// A usage error.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Usage { message: message.into(), hint: hint.into() }
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
            Failure::Read { path, source } => format!("cannot read {}: {source}", path.display()),
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
            Failure::Library(error) | Failure::Within { error, .. } => return error.hint(),
            Failure::NoGpu(_) => "`taipan devices` lists what is there; `--device cpu` always works",
            Failure::Read { .. } => "check the path and its permissions",
            Failure::NotUtf8 { .. } => "convert it to UTF-8, for instance with iconv",
            Failure::Case { .. } => {
                "a case is a folder with config.json, model.safetensors, golden.json and golden.safetensors"
            }
            Failure::Stream { .. } | Failure::Mismatch | Failure::Interrupted => return None,
        };
        Some(text.to_owned())
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

/// Prints what there is to say about the result, and turns it into the exit code.
pub(crate) fn exit_code(result: Result<()>) -> ExitCode {
    let failure = match result {
        Err(failure) if !failure.is_closed_pipe() => failure,
        _ => return ExitCode::SUCCESS,
    };
    if let Some(message) = failure.message() {
        crate::output::note(&format!("error: {message}"));
        if let Some(hint) = failure.hint() {
            crate::output::note(&format!("\nhint: {hint}"));
        }
    }
    ExitCode::from(failure.code())
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
