//! The folder in which models are kept, laid out as the tools of Hugging Face do, who share it:
//! `models--org--name/{blobs,refs,snapshots}`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::id::{MAIN, ModelId, is_commit};
use crate::listing::{INDEX, PYTORCH, PYTORCH_INDEX, SINGLE, is_gguf};

/// The folder of the cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Its name, without a revision.
    pub id: ModelId,
    /// Its commits, those that have a name first.
    pub snapshots: Vec<Snapshot>,
    /// Bytes on the disk, those of downloads that were broken off included.
    pub bytes: u64,
}

/// The files of a model at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: String,
    /// Branches and tags that stand for it.
    pub refs: Vec<String>,
    /// The folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether config and all weights are there, or a GGUF file is.
    pub complete: bool,
    /// GGUF files, where there are no other weights.
    pub gguf: Vec<String>,
}

impl Cache {
    /// The cache in this folder, which need not exist.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn repo(&self, id: &ModelId) -> PathBuf {
        self.root.join(id.folder())
    }

    /// Where other tools keep the lock of a download.
    pub(crate) fn lock_path(&self, id: &ModelId, blob: &str) -> PathBuf {
        self.root.join(".locks").join(id.folder()).join(format!("{blob}.lock"))
    }

    pub(crate) fn snapshot_path(&self, id: &ModelId, commit: &str) -> PathBuf {
        self.repo(id).join("snapshots").join(commit)
    }

    /// The folder of a model whose config and weights, or whose GGUF files, are all there, or the file that is named; nothing is
    /// asked of the network.
    #[must_use]
    pub fn find(&self, id: &ModelId) -> Option<PathBuf> {
        let path = self.snapshot_path(id, &self.commit_of(id)?);
        if let Some(file) = id.file() {
            return Some(path.join(file)).filter(|file| file.is_file());
        }
        if is_complete(&path) {
            return Some(path);
        }
        match &gguf_files(&path)[..] {
            [] => None,
            [file] => Some(path.join(file)),
            _ => Some(path),
        }
    }

    /// The commit that a revision stood for when it was fetched.
    fn commit_of(&self, id: &ModelId) -> Option<String> {
        let revision = id.revision();
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.repo(id).join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Bytes of a file that are not there yet.
    pub(crate) fn missing(&self, id: &ModelId, blob: &str, size: u64) -> u64 {
        let blobs = self.repo(id).join("blobs");
        let len = |name: &str| fs::metadata(blobs.join(name)).map_or(0, |m| m.len());
        size.saturating_sub(len(blob).max(len(&format!("{blob}.incomplete"))))
    }

    /// Bytes that the disk of the cache has room for, where the system tells it.
    pub(crate) fn room(&self) -> Option<u64> {
        // The folder need not exist yet.
        let there = self.root.ancestors().find(|path| path.is_dir())?;
        fs4::available_space(if there.as_os_str().is_empty() { Path::new(".") } else { there }).ok()
    }

    /// Lets a branch or a tag stand for a commit.
    pub(crate) fn set_ref(&self, id: &ModelId, commit: &str) -> Result<()> {
        let path = self.repo(id).join("refs").join(id.revision());
        if is_commit(id.revision()) || fs::read_to_string(&path).is_ok_and(|old| old == commit) {
            return Ok(());
        }
        create_parent(&path)?;
        let beside = beside(&path);
        let write = || {
            fs::File::create(&beside)?.write_all(commit.as_bytes())?;
            fs::rename(&beside, &path)
        };
        write().map_err(|e| Error::io("write", &path, e))
    }

    /// Puts a blob under its name into a snapshot.
    pub(crate) fn link(&self, id: &ModelId, commit: &str, name: &str, blob: &str) -> Result<()> {
        let path = self.snapshot_path(id, commit).join(name);
        let up = "../".repeat(2 + name.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{blob}"));
        if fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(());
        }
        create_parent(&path)?;
        let beside = beside(&path);
        let _ = fs::remove_file(&beside);
        let blob = self.repo(id).join("blobs").join(blob);
        // Where links cannot be had, the file has two names, or is there twice.
        let made = symlink(&target, &beside).or_else(|_| fs::hard_link(&blob, &beside));
        let made = made.or_else(|_| fs::copy(&blob, &beside).map(|_| ()));
        made.and_then(|()| fs::rename(&beside, &path)).map_err(|e| Error::io("write", &path, e))
    }

    /// The models in the cache, by name.
    ///
    /// # Errors
    /// `Io` if the cache cannot be read.
    pub fn list(&self) -> Result<Vec<Cached>> {
        let mut models = Vec::new();
        for name in names_in(&self.root)? {
            if let Some(id) = ModelId::of_folder(&name) {
                models.push(self.look(id)?);
            }
        }
        models.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(models)
    }

    fn look(&self, id: ModelId) -> Result<Cached> {
        let repo = self.repo(&id);
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, path) in files_under(&repo.join("refs"))? {
            let commit = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
            named.entry(commit.trim().to_owned()).or_default().push(name);
        }
        let mut snapshots = Vec::new();
        for commit in names_in(&repo.join("snapshots"))? {
            let path = self.snapshot_path(&id, &commit);
            let sizes = files_under(&path)?.into_iter().filter_map(|(_, path)| Some(fs::metadata(path).ok()?.len()));
            let (bytes, gguf) = (sizes.sum(), gguf_files(&path));
            let complete = is_complete(&path) || !gguf.is_empty();
            let refs = named.remove(&commit).unwrap_or_default();
            snapshots.push(Snapshot { refs, commit, path, bytes, complete, gguf });
        }
        snapshots.sort_by(|a, b| (b.refs.len(), &b.commit).cmp(&(a.refs.len(), &a.commit)));
        // Where links are missing the files themselves lie in the snapshots.
        let own = |path: &Path| fs::symlink_metadata(path).map(|m| if m.is_file() { m.len() } else { 0 });
        let mut bytes = 0;
        for part in ["blobs", "snapshots"] {
            bytes += files_under(&repo.join(part))?.iter().filter_map(|(_, path)| own(path).ok()).sum::<u64>();
        }
        Ok(Cached { id, snapshots, bytes })
    }

    /// What [`Cache::remove`] would remove.
    ///
    /// # Errors
    /// `NotCached`, or `Io`.
    pub fn entry(&self, id: &ModelId) -> Result<Cached> {
        let missing = || Error::NotCached { what: id.to_string() };
        if !self.repo(id).is_dir() {
            return Err(missing());
        }
        let mut found = self.look(ModelId { revision: None, file: None, ..id.clone() })?;
        if id.has_revision() {
            let commit = self.commit_of(id).ok_or_else(missing)?;
            found.snapshots.retain(|snapshot| snapshot.commit == commit);
            found.bytes = found.snapshots.first().ok_or_else(missing)?.bytes;
        }
        Ok(found)
    }

    /// Removes a model, or one revision of it with the files that no other one has; tells how many bytes that freed.
    ///
    /// # Errors
    /// `NotCached`, or `Io`.
    pub fn remove(&self, id: &ModelId) -> Result<u64> {
        let before = self.look(ModelId { revision: None, file: None, ..id.clone() })?.bytes;
        let found = self.entry(id)?;
        let _ = fs::remove_dir_all(self.root.join(".locks").join(id.folder()));
        let others = self.look(ModelId { revision: None, file: None, ..id.clone() })?.snapshots.len();
        if !id.has_revision() || others <= 1 {
            let repo = self.repo(id);
            fs::remove_dir_all(&repo).map_err(|e| Error::io("remove", &repo, e))?;
            return Ok(before);
        }
        for snapshot in &found.snapshots {
            for name in &snapshot.refs {
                let path = self.repo(id).join("refs").join(name);
                fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
            }
            fs::remove_dir_all(&snapshot.path).map_err(|e| Error::io("remove", &snapshot.path, e))?;
        }
        self.drop_unused_blobs(id)?;
        Ok(before - self.look(ModelId { revision: None, file: None, ..id.clone() })?.bytes)
    }

    fn drop_unused_blobs(&self, id: &ModelId) -> Result<()> {
        let links = files_under(&self.repo(id).join("snapshots"))?;
        let target = |path: &PathBuf| fs::read_link(path).ok()?.file_name().map(OsStr::to_owned);
        let used: Vec<_> = links.iter().filter_map(|(_, path)| target(path)).collect();
        for (name, path) in files_under(&self.repo(id).join("blobs"))? {
            if !used.iter().any(|used| **used == *name) {
                fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
            }
        }
        Ok(())
    }

    /// What `id` stands for in the cache, in words: the revision where it is not `main`.
    #[must_use]
    pub fn label(id: &ModelId, refs: &[String], commit: &str) -> String {
        match refs.first() {
            Some(name) if name == MAIN => id.repo(),
            Some(name) => format!("{}@{name}", id.repo()),
            None => format!("{}@{commit}", id.repo()),
        }
    }
}

/// Whether a folder holds a config and weights, of shards every one.
fn is_complete(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).is_file();
    let has_shards = |index: &str| -> Option<bool> {
        let index: serde_json::Value = serde_json::from_slice(&fs::read(dir.join(index)).ok()?).ok()?;
        Some(index["weight_map"].as_object()?.values().all(|name| name.as_str().is_some_and(has)))
    };
    // In the order in which they are looked for when a model is opened.
    let weights = match () {
        () if has(SINGLE) => true,
        () if has(INDEX) => has_shards(INDEX) == Some(true),
        () => has(PYTORCH) || has_shards(PYTORCH_INDEX) == Some(true),
    };
    has("config.json") && weights
}

/// The GGUF files of a folder that has no other weights.
fn gguf_files(dir: &Path) -> Vec<String> {
    if [SINGLE, INDEX, PYTORCH, PYTORCH_INDEX].into_iter().any(|name| dir.join(name).is_file()) {
        return Vec::new();
    }
    let files = files_under(dir).unwrap_or_default().into_iter();
    let mut names: Vec<String> = files.filter(|(name, path)| is_gguf(name) && path.is_file()).map(|f| f.0).collect();
    names.sort();
    names
}

pub(crate) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|e| Error::io("make", parent, e))
}

/// A name next to this one, for what is not finished.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", dir, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", dir, e))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// All files below a folder by their paths in it; links are not followed.
fn files_under(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for name in names_in(dir)? {
        let path = dir.join(&name);
        if fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
            files.extend(files_under(&path)?.into_iter().map(|(rest, path)| (format!("{name}/{rest}"), path)));
        } else {
            files.push((name, path));
        }
    }
    Ok(files)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.to_string_lossy().replace('/', "\\"), link)
}
