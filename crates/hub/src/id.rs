//! Names of models.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::listing::{is_gguf, is_safe};

/// The revision of a model where none is named.
pub const MAIN: &str = "main";

/// A model on the hub: `org/name`, or `org/name@revision`; of one that is there as several files, `org/name:file.gguf`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelId {
    pub(crate) org: String,
    pub(crate) name: String,
    pub(crate) revision: Option<String>,
    pub(crate) file: Option<String>,
}

impl ModelId {
    /// `org/name`.
    #[must_use]
    pub fn repo(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }

    /// The branch, tag or commit; `main` where none is named.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// Whether a revision is named.
    #[must_use]
    pub fn has_revision(&self) -> bool {
        self.revision.is_some()
    }

    /// The one of its files that is meant, if one is named.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The model, whatever file of it is meant.
    #[must_use]
    pub fn without_file(&self) -> Self {
        Self { file: None, ..self.clone() }
    }

    /// The same model, as this file of it.
    ///
    /// # Errors
    /// `Name` if that is no name of a GGUF file.
    pub fn with_file(self, file: &str) -> Result<Self> {
        if is_safe(file) && is_gguf(file) {
            return Ok(Self { file: Some(file.to_owned()), ..self });
        }
        Err(Error::Name { name: format!("{}:{file}", self.repo()) })
    }

    /// The name of its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.org, self.name)
    }

    /// The model whose folder in the cache this is.
    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        let (org, name) = folder.strip_prefix("models--")?.split_once("--")?;
        format!("{org}/{name}").parse().ok()
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::Name { name: text.to_owned() };
        if let Some((model, file)) = text.split_once(':') {
            return model.parse::<Self>().and_then(|id| id.with_file(file)).map_err(|_| bad());
        }
        let (repo, revision) = match text.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (text, None),
        };
        let (org, name) = repo.split_once('/').ok_or_else(bad)?;
        if repo.len() > 96 || !is_part(org) || !is_part(name) || !revision.is_none_or(is_revision) {
            return Err(bad());
        }
        Ok(Self { org: org.to_owned(), name: name.to_owned(), revision: revision.map(str::to_owned), file: None })
    }
}

/// The hub's own rules; a name that keeps them is a name of a folder too.
fn is_part(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    part.chars().all(inner)
        && edge(part.chars().next())
        && edge(part.chars().next_back())
        && !part.contains("--")
        && !part.contains("..")
}

/// A name of a branch, a tag or a commit, which becomes a path in the cache.
fn is_revision(revision: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !part.contains("..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
    };
    revision.len() <= 200 && revision.split('/').all(part)
}

/// Whether this is the full name of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, repo, revision) in [
            ("state-spaces/mamba2-130m", "state-spaces/mamba2-130m", "main"),
            ("a/b@v1.0", "a/b", "v1.0"),
            ("a_/B.c_d@refs/pr/1", "a_/B.c_d", "refs/pr/1"),
            ("a/b:c.gguf", "a/b", "main"),
            ("a/b@v1.0:q4/c-Q4_0.GGUF", "a/b", "v1.0"),
        ] {
            let id: ModelId = text.parse().unwrap();
            assert_eq!((id.repo().as_str(), id.revision(), id.to_string().as_str()), (repo, revision, text));
            assert_eq!(ModelId::of_folder(&id.folder()).unwrap().repo(), repo);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "a",
            "a/",
            "/b",
            "a/b/c",
            "./b",
            "../b",
            "a/..",
            "a/b..c",
            "a--b/c",
            "a/-b",
            "a/b.",
            "a b/c",
            "a/b@",
            "a/b@..",
            "a/b@x/../y",
            "a/b@/x",
            "a/b@x//y",
            "a/b@x\\y",
            "C:\\a/b",
            "~/b",
            "a/b@.x",
            "a/b@x@y",
            "ä/b",
            "a/b:",
            "a/b:c",
            "a/b:../c.gguf",
            "a/b:/c.gguf",
            "a/b:c.gguf:d.gguf",
            "a:c.gguf",
        ] {
            assert!(matches!(bad.parse::<ModelId>(), Err(Error::Name { .. })), "{bad}");
        }
        assert!(format!("a/{}", "b".repeat(95)).parse::<ModelId>().is_err());
    }
}
