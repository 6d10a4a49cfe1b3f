//! What can go wrong, in words.

use std::io;
use std::path::{Path, PathBuf};

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name of a model is none.
    #[error("`{name}` is not the name of a model on the hub")]
    Name {
        /// The name.
        name: String,
    },
    /// An environment variable is of no use.
    #[error("{name}: {problem}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The network is not to be used.
    #[error("{what} is not in the cache, and HF_HUB_OFFLINE forbids the network")]
    Offline {
        /// What would be fetched.
        what: String,
    },
    /// The hub wants to know who asks.
    #[error("the hub denies access to {what}{}", said(message))]
    Denied {
        /// What was asked for.
        what: String,
        /// Whether a token was sent.
        token: bool,
        /// The page on which access to a gated model is asked for.
        gate: Option<String>,
        /// What the hub said.
        message: String,
    },
    /// The hub does not have it.
    #[error("the hub has no {what}{}", said(message))]
    NotFound {
        /// What was asked for.
        what: String,
        /// What the hub said.
        message: String,
    },
    /// An answer that is none.
    #[error("{url}: HTTP {status}{}", said(message))]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// No connection, or one that broke.
    #[error("{url}: {message}")]
    Network {
        /// The address.
        url: String,
        /// What happened.
        message: String,
    },
    /// A download that broke again and again.
    #[error("{file}: the connection broke at {have} of {size} bytes: {message}")]
    Broken {
        /// The file.
        file: String,
        /// Bytes that are there.
        have: u64,
        /// Bytes of the whole.
        size: u64,
        /// What happened last.
        message: String,
    },
    /// The server does not keep to what it said.
    #[error("{what}: {problem}")]
    Server {
        /// File or address.
        what: String,
        /// What it did.
        problem: String,
    },
    /// A listing names a file that would lie outside of the model's folder.
    #[error("the listing of {repo} names a file `{file}`, which would lie outside of its folder")]
    UnsafeName {
        /// The model.
        repo: String,
        /// The file.
        file: String,
    },
    /// The bytes that came are not those that were announced.
    #[error("{file}: its {kind} is {found}, announced was {expected}")]
    WrongHash {
        /// The file.
        file: String,
        /// The kind of hash.
        kind: &'static str,
        /// The hash that was announced.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// The files are not those of a model.
    #[error("{repo} {problem}")]
    NoModel {
        /// The model.
        repo: String,
        /// What is missing.
        problem: String,
        /// What there is instead.
        hint: String,
    },
    /// A model is there as several files, and none of them, or another, was named.
    #[error("{repo} {problem}: {}", if files.is_empty() { "it has no GGUF files".to_owned() } else { files.join(", ") })]
    SeveralFiles {
        /// The model.
        repo: String,
        /// What is wrong.
        problem: String,
        /// The files.
        files: Vec<String>,
    },
    /// The cache does not have it.
    #[error("{what} is not in the cache")]
    NotCached {
        /// What was to be removed.
        what: String,
    },
    /// The disk has less room than the download takes.
    #[error("{} has {available} bytes of room, and {needed} are to be downloaded", path.display())]
    NoSpace {
        /// The cache.
        path: PathBuf,
        /// Bytes that are missing.
        needed: u64,
        /// Bytes that fit.
        available: u64,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The caller wanted no more.
    #[error("stopped")]
    Stopped,
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { action, path: path.to_owned(), source }
    }

    /// A stable identifier, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::Name { .. } => "hub-name",
            Error::Setting { .. } => "hub-setting",
            Error::Offline { .. } => "hub-offline",
            Error::Denied { .. } => "hub-denied",
            Error::NotFound { .. } => "hub-not-found",
            Error::Status { .. } | Error::Server { .. } | Error::UnsafeName { .. } => "hub-server",
            Error::Network { .. } | Error::Broken { .. } => "hub-network",
            Error::WrongHash { .. } => "hub-hash",
            Error::NoModel { .. } => "hub-no-model",
            Error::SeveralFiles { .. } => "hub-file",
            Error::NotCached { .. } => "hub-not-cached",
            Error::NoSpace { .. } => "hub-no-space",
            Error::Io { .. } => "io",
            Error::Stopped => "interrupted",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Name { .. } => {
                "a name is org/name or org/name@revision, as on the model's page; org/name:file.gguf is one file of it"
            }
            Error::Setting { .. } => "set it anew, or not at all",
            Error::Offline { .. } => "unset HF_HUB_OFFLINE to fetch it; `taipan ls` shows what is there",
            Error::Denied { gate: Some(page), .. } => {
                return Some(format!("accept the conditions on {page}, then set HF_TOKEN to a token of that account"));
            }
            Error::Denied { token: true, .. } => "check the spelling, and that the token in use may read this model",
            Error::Denied { token: false, .. } => "check the spelling; a private or gated model needs HF_TOKEN",
            Error::NotFound { .. } => "check the spelling; names and revisions are case-sensitive",
            Error::Status { .. } => "try again later; HF_ENDPOINT says which hub is asked",
            Error::Network { .. } => "check the connection, HTTPS_PROXY and HF_ENDPOINT",
            Error::Broken { .. } => "what came is kept: the next pull goes on from there",
            Error::Server { .. } | Error::UnsafeName { .. } => {
                "nothing of it was kept; HF_ENDPOINT says which hub is asked"
            }
            Error::WrongHash { .. } => "the damaged file was removed; pull again, and tell the hub if it happens again",
            Error::NoModel { hint, .. } => hint,
            Error::SeveralFiles { repo, files, .. } => match files.first() {
                Some(file) => return Some(format!("name one of them, as in {repo}:{file}")),
                None => "leave out the name of the file",
            },
            Error::NotCached { .. } => "`taipan ls` shows what is there",
            Error::NoSpace { .. } => {
                "make room (`taipan ls` and `taipan rm`), or put the cache elsewhere with HF_HUB_CACHE"
            }
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "the disk is full: make room, or put the cache elsewhere with HF_HUB_CACHE; what came is kept"
            }
            Error::Io { .. } => "HF_HUB_CACHE says where the cache is",
            Error::Stopped => return None,
        };
        Some(text.to_owned())
    }
}
