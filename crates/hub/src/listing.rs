//! What the hub knows of a model, and which of its files a model needs.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::id::{ModelId, is_commit, is_hex};

/// Weights in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The list of their shards.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Weights of older models.
pub(crate) const PYTORCH: &str = "pytorch_model.bin";
/// The list of their shards.
pub(crate) const PYTORCH_INDEX: &str = "pytorch_model.bin.index.json";
const CONFIG: &str = "config.json";

/// A model at a commit.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
}

/// A file of a model on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name, which is a path with slashes.
    pub name: String,
    /// Its bytes, where the hub says how many.
    pub size: Option<u64>,
    pub(crate) hash: Option<Hash>,
}

impl RemoteFile {
    /// Whether it is a GGUF file, by its name.
    #[must_use]
    pub fn is_gguf(&self) -> bool {
        is_gguf(&self.name)
    }
}

/// What the bytes of a file must hash to, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// Of large files.
    Sha256(String),
    /// Of small files, as git makes it.
    Git(String),
}

impl Hash {
    /// The hash that a tag or a field of the listing holds.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        match text.len() {
            64 if is_hex(text) => Some(Hash::Sha256(text.to_owned())),
            40 if is_hex(text) => Some(Hash::Git(text.to_owned())),
            _ => None,
        }
    }

    pub(crate) fn hex(&self) -> &str {
        let (Hash::Sha256(hex) | Hash::Git(hex)) = self;
        hex
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Hash::Sha256(_) => "SHA-256",
            Hash::Git(_) => "git hash",
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    sha: String,
    siblings: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

impl Listing {
    pub(crate) fn parse(bytes: &[u8], id: &ModelId) -> Result<Self> {
        let bad = |problem: String| Error::Server { what: format!("the listing of {id}"), problem };
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| bad(format!("not what was expected: {e}")))?;
        if !is_commit(&raw.sha) {
            return Err(bad("the commit it names is none".to_owned()));
        }
        let file = |raw: RawFile| {
            if !is_safe(&raw.rfilename) {
                return Err(Error::UnsafeName { repo: id.repo(), file: raw.rfilename });
            }
            let (hash, size) = match raw.lfs {
                Some(lfs) => (lfs.sha256.or(lfs.oid), lfs.size.or(raw.size)),
                None => (raw.blob_id, raw.size),
            };
            Ok(RemoteFile { name: raw.rfilename, size, hash: hash.as_deref().and_then(Hash::of_text) })
        };
        let files = raw.siblings.into_iter().map(file).collect::<Result<_>>()?;
        Ok(Self { commit: raw.sha, files })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// The files without which a model does not run, weights left out.
    pub(crate) fn small_files(&self, id: &ModelId) -> Result<Vec<RemoteFile>> {
        if self.find(CONFIG).is_none() {
            return Err(no_model(
                id,
                "has no config.json",
                "a model that Taipan reads has one, and safetensors weights",
            ));
        }
        let wanted = |name: &str| {
            let root = !name.contains('/');
            let known = [CONFIG, "generation_config.json"].contains(&name);
            root && (known || name.starts_with("tokenizer") || name.starts_with("chat_template"))
        };
        Ok(self.files.iter().filter(|file| wanted(&file.name)).cloned().collect())
    }

    /// The GGUF file that is meant: the one that is named, or the only one where there are no other weights.
    pub(crate) fn gguf(&self, id: &ModelId) -> Result<Option<&RemoteFile>> {
        let whole = |file: &&RemoteFile| is_gguf(&file.name) && !is_part(&file.name);
        let files: Vec<&RemoteFile> = self.files.iter().filter(whole).collect();
        let choose = |problem: String| {
            let names = files.iter().map(|file| file.name.clone()).collect();
            Err(Error::SeveralFiles { repo: id.without_file().to_string(), problem, files: names })
        };
        if let Some(name) = id.file() {
            return match self.find(name) {
                Some(_) if is_part(name) => {
                    Err(no_model(id, "is a part of a model only", "files of which each is a model are read"))
                }
                Some(file) => Ok(Some(file)),
                None => choose(format!("has no file {name}")),
            };
        }
        if [SINGLE, INDEX, PYTORCH, PYTORCH_INDEX].into_iter().any(|name| self.find(name).is_some()) {
            return Ok(None);
        }
        match files[..] {
            [] => Ok(None),
            [file] => Ok(Some(file)),
            _ => choose("has several GGUF files, of which each is the model".to_owned()),
        }
    }

    /// What kind of weights there are.
    pub(crate) fn weights(&self, id: &ModelId) -> Result<&RemoteFile> {
        let found = [SINGLE, INDEX, PYTORCH, PYTORCH_INDEX].into_iter().find_map(|name| self.find(name));
        found.ok_or_else(|| {
            let ends = |end: &str| self.files.iter().any(|file| file.name.ends_with(end));
            let hint = match () {
                () if ends(".gguf") => "its GGUF files hold a part of a model each, which are not read",
                () => "a model that Taipan reads has model.safetensors, shards of it, or pytorch_model.bin",
            };
            no_model(id, "has no weights that Taipan reads", hint)
        })
    }

    /// The shards that the index of this name lists.
    pub(crate) fn shards(&self, name: &str, index: &[u8], id: &ModelId) -> Result<Vec<RemoteFile>> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: std::collections::BTreeMap<String, String>,
        }
        let bad = |problem: String| Error::Server { what: format!("{name} of {id}"), problem };
        let index: Index = serde_json::from_slice(index).map_err(|e| bad(format!("not an index: {e}")))?;
        let names: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
        let shard = |name: String| {
            if !is_safe(&name) {
                return Err(Error::UnsafeName { repo: id.repo(), file: name });
            }
            let found = self.find(&name).cloned();
            found.ok_or_else(|| bad(format!("it names a shard `{name}` that the model does not have")))
        };
        names.into_iter().map(shard).collect()
    }
}

/// Whether a file is a GGUF file, by its name.
pub(crate) fn is_gguf(name: &str) -> bool {
    name.len() > 5 && name.as_bytes()[name.len() - 5..].eq_ignore_ascii_case(b".gguf")
}

/// Whether a file holds a part of a model only: one of several, or what turns pictures into tokens.
fn is_part(name: &str) -> bool {
    let stem = &name[..name.len().saturating_sub(5)];
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let split = stem
        .rsplit_once("-of-")
        .is_some_and(|(rest, count)| number(count) && rest.rsplit_once('-').is_some_and(|(_, first)| number(first)));
    split || stem.rsplit('/').next().is_some_and(|file| file.starts_with("mmproj"))
}

fn no_model(id: &ModelId, problem: &str, hint: &str) -> Error {
    Error::NoModel { repo: id.to_string(), problem: problem.to_owned(), hint: hint.to_owned() }
}

/// Whether a name stays inside the folder that it is put in, on every system.
pub(crate) fn is_safe(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    !name.contains(['\\', ':', '\0']) && !name.chars().any(char::is_control) && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn id() -> ModelId {
        "a/b".parse().unwrap()
    }

    fn listing(names: &[&str]) -> Result<Listing> {
        let files: Vec<_> = names.iter().map(|name| serde_json::json!({ "rfilename": name })).collect();
        Listing::parse(serde_json::json!({ "sha": COMMIT, "siblings": files }).to_string().as_bytes(), &id())
    }

    fn names(files: &[RemoteFile]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn only_what_a_model_needs_is_chosen() {
        let files = [
            "README.md",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.gguf",
            "chat_template.jinja",
            "pytorch_model.bin",
            "model.safetensors",
            "onnx/config.json",
            "onnx/tokenizer.json",
        ];
        let listing = listing(&files).unwrap();
        let small = listing.small_files(&id()).unwrap();
        let expected =
            ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
        assert_eq!(names(&small), expected);
        assert_eq!(listing.weights(&id()).unwrap().name, "model.safetensors");
    }

    #[test]
    fn weights_are_safetensors_before_anything_else() {
        let weights = |names: &[&str]| listing(names).unwrap().weights(&id()).map(|file| file.name.clone());
        assert_eq!(weights(&[PYTORCH, INDEX]).unwrap(), INDEX);
        assert_eq!(weights(&[PYTORCH_INDEX, PYTORCH]).unwrap(), PYTORCH);
        assert_eq!(weights(&[PYTORCH_INDEX]).unwrap(), PYTORCH_INDEX);
        for (names, hint) in [(vec!["x-00001-of-00002.gguf"], "GGUF"), (vec![], "reads")] {
            let error = weights(&names).unwrap_err();
            assert!(matches!(error, Error::NoModel { .. }) && error.hint().unwrap().contains(hint), "{error}");
        }
    }

    #[test]
    fn one_gguf_file_is_chosen_where_there_is_one() {
        let found = |names: &[&str], file: Option<&str>| {
            let id = file.map_or_else(|| Ok(id()), |file| id().with_file(file)).unwrap();
            listing(names).unwrap().gguf(&id).map(|file| file.map(|file| file.name.clone()))
        };
        let several = ["README.md", "m-Q4_0.gguf", "m-Q8_0.GGUF", "mmproj-f16.gguf", "m-00001-of-00002.gguf"];
        assert_eq!(found(&["config.json", "m.gguf", "mmproj-m.gguf"], None).unwrap().unwrap(), "m.gguf");
        assert_eq!(found(&several, Some("m-Q8_0.GGUF")).unwrap().unwrap(), "m-Q8_0.GGUF");
        assert_eq!(found(&["m.gguf", SINGLE], None).unwrap(), None);
        assert_eq!(found(&["m.gguf", SINGLE], Some("m.gguf")).unwrap().unwrap(), "m.gguf");
        assert_eq!(found(&["README.md"], None).unwrap(), None);
        for file in [None, Some("m-F16.gguf")] {
            let error = found(&several, file).unwrap_err();
            assert!(error.to_string().ends_with(": m-Q4_0.gguf, m-Q8_0.GGUF"), "{error}");
            assert_eq!(error.hint().unwrap(), "name one of them, as in a/b:m-Q4_0.gguf");
        }
        assert!(found(&["README.md"], Some("m.gguf")).unwrap_err().hint().unwrap().contains("leave out"));
        assert!(matches!(found(&several, Some("m-00001-of-00002.gguf")), Err(Error::NoModel { .. })));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["../x", "a/../../x", "/etc/passwd", "a//b", "a\\b", "C:x", "./a", "", "a/", "a\nb"] {
            let error = listing(&["config.json", bad]).unwrap_err();
            assert!(matches!(&error, Error::UnsafeName { file, .. } if file == bad), "{bad:?}: {error}");
        }
        let listing = listing(&["config.json", "a.safetensors"]).unwrap();
        let shards = |name: &str| {
            listing.shards(
                INDEX,
                serde_json::json!({ "weight_map": { "t": name, "u": "a.safetensors" } }).to_string().as_bytes(),
                &id(),
            )
        };
        assert_eq!(names(&shards("a.safetensors").unwrap()), ["a.safetensors"]);
        assert!(matches!(shards("../a").unwrap_err(), Error::UnsafeName { .. }));
        assert!(matches!(shards("b").unwrap_err(), Error::Server { .. }));
    }

    #[test]
    fn hashes_and_sizes_are_taken_from_where_they_stand() {
        let sha = "ab".repeat(32);
        let json = serde_json::json!({ "sha": COMMIT, "siblings": [
            { "rfilename": "a", "size": 7, "blobId": COMMIT },
            { "rfilename": "b", "size": 130, "blobId": COMMIT, "lfs": { "sha256": sha, "size": 9, "pointerSize": 130 } },
            { "rfilename": "c", "blobId": "no hash" },
        ]});
        let files = Listing::parse(json.to_string().as_bytes(), &id()).unwrap().files;
        let found: Vec<_> = files.into_iter().map(|file| (file.size, file.hash)).collect();
        let git = Some(Hash::Git(COMMIT.to_owned()));
        assert_eq!(found, [(Some(7), git), (Some(9), Some(Hash::Sha256(sha))), (None, None)]);
        assert!(Listing::parse(br#"{"sha": "../..", "siblings": []}"#, &id()).is_err());
        assert!(Listing::parse(b"<html>", &id()).is_err());
    }
}
