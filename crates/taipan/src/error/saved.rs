//! Why a saved state cannot be restored.

use super::Name;

/// Why a saved state was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SavedStateProblem {
    /// The first bytes are not those of a saved state.
    #[error("these bytes are not a saved session state")]
    NotAState,
    /// Written by another version of the format.
    #[error("format version {found}, this build reads version {expected}")]
    Version {
        /// The version in the bytes.
        found: u32,
        /// The version this build reads.
        expected: u32,
    },
    /// Written by a session of another model.
    #[error("made by model {}, the open model is {expected}", Name(found))]
    Fingerprint {
        /// Fingerprint in the bytes.
        found: String,
        /// Fingerprint of the open model.
        expected: String,
    },
    /// A field has a size or value that does not fit the model.
    #[error("field `{}` is {}, expected {expected}", Name(field), Name(found))]
    Shape {
        /// The field.
        field: String,
        /// What the open model asks for.
        expected: String,
        /// What the bytes say.
        found: String,
    },
    /// The bytes were changed after they were written.
    #[error("checksum is {found:016x}, expected {expected:016x}: the bytes are damaged")]
    Checksum {
        /// The checksum stored in the bytes.
        expected: u64,
        /// The checksum of the bytes as they are.
        found: u64,
    },
    /// The bytes end early.
    #[error("ends after {found} bytes, expected {expected}")]
    Truncated {
        /// The length that the header promises.
        expected: u64,
        /// The length there is.
        found: u64,
    },
    /// There are bytes after the end.
    #[error("{extra} bytes follow the end")]
    TrailingBytes {
        /// How many.
        extra: u64,
    },
}

impl SavedStateProblem {
    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            SavedStateProblem::Fingerprint { .. } => "restore it with the model that made it",
            SavedStateProblem::Version { .. } => "make the state again with this version",
            _ => "the bytes are not what `save` returned; make the state again",
        }
    }
}
