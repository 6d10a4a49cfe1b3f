//! One file from the hub to the cache: in one go or in several, checked against its hash.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use crate::Event;
use crate::cache::{Cache, create_parent};
use crate::client::{Client, Part, TRIES, passes, shown};
use crate::error::{Error, Result};
use crate::id::ModelId;
use crate::listing::{Hash, RemoteFile};

/// Bytes read at a time.
const STEP: usize = 256 << 10;

/// What is told of the bytes that came; it may say that no more are wanted.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

pub(crate) fn tell(watch: Watch<'_>, event: Event<'_>) -> Result<()> {
    if watch(event).is_break() { Err(Error::Stopped) } else { Ok(()) }
}

/// A file at a commit, and where it goes.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) cache: &'a Cache,
    pub(crate) id: &'a ModelId,
    pub(crate) commit: &'a str,
    pub(crate) file: &'a RemoteFile,
}

/// A file whose size and hash are known.
struct Known {
    url: String,
    size: u64,
    hash: Hash,
}

impl Download<'_> {
    /// Brings the file, or finds it in the cache; returns the name of its blob and how many bytes came.
    pub(crate) fn run(&self, watch: Watch<'_>) -> Result<(String, u64)> {
        let known = self.known()?;
        let name = known.hash.hex().to_owned();
        let blob = self.cache.repo(self.id).join("blobs").join(&name);
        let there = || fs::metadata(&blob).is_ok_and(|m| m.len() == known.size);
        if there() {
            return Ok((name, 0));
        }
        create_parent(&blob)?;
        let _lock = self.lock(&name, watch)?;
        if there() {
            return Ok((name, 0));
        }
        let partial = blob.with_file_name(format!("{name}.incomplete"));
        let came = self.fill(&known, &partial, watch)?;
        fs::rename(&partial, &blob).map_err(|e| Error::io("write", &blob, e))?;
        Ok((name, came))
    }

    /// What the file must be: what the listing said and what the file itself says agree.
    fn known(&self) -> Result<Known> {
        let name = &self.file.name;
        let fail = |problem: String| Error::Server { what: name.clone(), problem };
        let url = self.client.file_url(self.id, self.commit, name);
        let meta = self.client.head(&url, &self.what(), self.id)?;
        if let Some(commit) = meta.commit.filter(|commit| commit != self.commit) {
            return Err(fail(format!("asked for commit {}, got {commit}", self.commit)));
        }
        let tagged = meta.etag.as_deref().and_then(Hash::of_text);
        let hash = match (&self.file.hash, tagged) {
            (Some(listed), Some(tagged)) if *listed != tagged => {
                return Err(fail(format!("the listing says {}, the file itself {}", listed.hex(), tagged.hex())));
            }
            (Some(hash), _) => hash.clone(),
            (None, Some(hash)) => hash,
            (None, None) => return Err(fail("the hub tells no hash to check it by".to_owned())),
        };
        let size = match (self.file.size, meta.size) {
            (Some(listed), Some(size)) if listed != size => {
                return Err(fail(format!("the listing says {listed} bytes, the file itself {size}")));
            }
            (listed, size) => listed.or(size).ok_or_else(|| fail("the hub does not tell its size".to_owned()))?,
        };
        Ok(Known { url, size, hash })
    }

    fn what(&self) -> String {
        format!("{} in {}", self.file.name, self.id)
    }

    /// Waits until no other program fetches the same file. The lock goes with the file handle.
    fn lock(&self, name: &str, watch: Watch<'_>) -> Result<File> {
        let path = self.cache.lock_path(self.id, name);
        create_parent(&path)?;
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
        let file = file.map_err(|e| Error::io("write", &path, e))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tell(watch, Event::Waiting { file: &self.file.name })?,
                // Not every file system has locks; the hash tells what two programs made of one file.
                Err(TryLockError::Error(_)) => return Ok(file),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Fills the partial file to its end and checks it; returns how many bytes came.
    fn fill(&self, known: &Known, path: &Path, watch: Watch<'_>) -> Result<u64> {
        let mut partial = Partial::open(path, known)?;
        let resumed = partial.have > 0;
        self.fetch(known, &mut partial, watch)?;
        if partial.check(&self.file.name).is_err() && resumed {
            // What lay there was not the beginning of this file.
            partial.clear()?;
            self.fetch(known, &mut partial, watch)?;
        }
        if let Err(error) = partial.check(&self.file.name) {
            drop(partial);
            fs::remove_file(path).map_err(|e| Error::io("remove", path, e))?;
            return Err(error);
        }
        partial.file.sync_all().map_err(|e| Error::io("write", path, e))?;
        Ok(partial.came)
    }

    /// Asks for what is missing until nothing is. A connection that breaks is made again, as long as that leads further.
    fn fetch(&self, known: &Known, partial: &mut Partial, watch: Watch<'_>) -> Result<()> {
        let (mut tries, mut furthest) = (0, partial.have);
        tell(watch, Event::Bytes { done: partial.have })?;
        while partial.have < known.size {
            let result = self.fetch_once(known, partial, watch);
            tries = if partial.have > furthest { 0 } else { tries + 1 };
            furthest = furthest.max(partial.have);
            match result {
                Ok(()) => {}
                Err(e) if !passes(&e) => return Err(e),
                Err(e) if tries >= TRIES => {
                    let (file, message) = (self.file.name.clone(), e.to_string());
                    return Err(Error::Broken { file, have: partial.have, size: known.size, message });
                }
                Err(e) => {
                    tell(watch, Event::Broken { file: &self.file.name, reason: &e })?;
                    self.client.wait(tries);
                }
            }
        }
        Ok(())
    }

    fn fetch_once(&self, known: &Known, partial: &mut Partial, watch: Watch<'_>) -> Result<()> {
        let part = (partial.have > 0).then_some(Part::From(partial.have));
        let response = self.client.open(&known.url, part, &self.what(), self.id)?;
        let fail = |problem: &str| Error::Server { what: self.file.name.clone(), problem: problem.to_owned() };
        match response.status().as_u16() {
            206 if part.is_some() && range_start(&response) == Some(partial.have) => {}
            206 => return Err(fail("another range came than the one that was asked for")),
            // Ranges are not served: all of it comes anew.
            200 if part.is_some() => partial.clear()?,
            200 => {}
            _ => return Err(fail("the range that is missing cannot be had")),
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; STEP];
        while partial.have < known.size {
            let broken = |message: String| Error::Network { url: shown(&known.url), message };
            let count = body.read(&mut buffer).map_err(|e| broken(e.to_string()))?;
            if count == 0 {
                return Err(broken("it ended early".to_owned()));
            }
            if partial.have + count as u64 > known.size {
                return Err(fail("more bytes came than were announced"));
            }
            partial.write(&buffer[..count])?;
            tell(watch, Event::Bytes { done: partial.have })?;
        }
        Ok(())
    }
}

/// First byte of the range that came.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// A file under construction, with the hash of what it holds.
struct Partial {
    path: PathBuf,
    file: File,
    have: u64,
    /// Bytes that came over the network.
    came: u64,
    hasher: Hasher,
    size: u64,
    hash: Hash,
}

enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(hash: &Hash, size: u64) -> Self {
        match hash {
            Hash::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Hash::Git(_) => Hasher::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    fn hex(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => hex(&hasher.clone().finalize()),
            Hasher::Git(hasher) => hex(&hasher.clone().finalize()),
        }
    }
}

impl Partial {
    /// Goes on with what an earlier download left.
    fn open(path: &Path, known: &Known) -> Result<Self> {
        let file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path);
        let file = file.map_err(|e| Error::io("write", path, e))?;
        let hasher = Hasher::new(&known.hash, known.size);
        let (size, hash) = (known.size, known.hash.clone());
        let mut partial = Self { path: path.to_owned(), file, have: 0, came: 0, hasher, size, hash };
        let mut buffer = vec![0; STEP];
        loop {
            let count = partial.file.read(&mut buffer).map_err(|e| Error::io("read", path, e))?;
            if count == 0 {
                break;
            }
            partial.hasher.update(&buffer[..count]);
            partial.have += count as u64;
        }
        if partial.have > size {
            partial.clear()?;
        }
        Ok(partial)
    }

    fn clear(&mut self) -> Result<()> {
        let clear = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        clear.map_err(|e| Error::io("write", &self.path, e))?;
        self.have = 0;
        self.hasher = Hasher::new(&self.hash, self.size);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
        self.came += bytes.len() as u64;
        Ok(())
    }

    fn check(&self, name: &str) -> Result<()> {
        let found = self.hasher.hex();
        if found == self.hash.hex() {
            return Ok(());
        }
        let (file, expected) = (name.to_owned(), self.hash.hex().to_owned());
        Err(Error::WrongHash { file, kind: self.hash.kind(), expected, found })
    }
}
