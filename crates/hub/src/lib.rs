//! Models from a Hugging Face hub, in the cache that other tools share.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use taipan_hub::{Hub, ModelId, Settings};
//!
//! let hub = Hub::new(Settings::from_env()?);
//! let id: ModelId = "ibm-granite/granite-4.0-h-350m".parse()?;
//! let dir = match hub.cache().find(&id) {
//!     Some(dir) => dir, // nothing is asked of the network
//!     None => hub.pull(&hub.plan(&id)?, &mut |_| ControlFlow::Continue(()))?.path,
//! };
//! println!("{}", dir.display());
//! # Ok::<_, taipan_hub::Error>(())
//! ```
//!
//! What a file must hash to is known before it is fetched, and it appears under its name only when it does. A download
//! that was broken off is gone on with, also one that another tool began.

#![forbid(unsafe_code)]

mod cache;
mod client;
mod download;
mod error;
mod id;
mod listing;
mod settings;

use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;

pub use cache::{Cache, Cached, Snapshot};
pub use error::{Error, Result};
pub use id::{MAIN, ModelId};
pub use listing::RemoteFile;
pub use settings::{ENDPOINT, Settings, Token};

use client::{Client, Part, shown};
use download::{Download, tell};
use listing::Listing;

/// Bytes of a weight file that are asked for first: most headers end there.
const START: u64 = 256 << 10;

/// The longest header that is read.
const MAX_HEADER: u64 = 100 << 20;

/// A hub and the cache in front of it.
pub struct Hub {
    client: Client,
    cache: Cache,
    settings: Settings,
}

/// What is to be fetched.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of which model.
    pub id: ModelId,
    /// At which commit.
    pub commit: String,
    /// The files, weights last.
    pub files: Vec<RemoteFile>,
    /// The list of shards, where the weights are in several files.
    pub index: Option<Vec<u8>>,
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The folder of the model, or the GGUF file that it is.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// What happens during a pull.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// So many bytes are there.
    Bytes {
        /// Of all files together.
        done: u64,
    },
    /// Another program fetches this file; we wait for it.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// The connection broke, and is made anew.
    Broken {
        /// The file.
        file: &'a str,
        /// What happened.
        reason: &'a Error,
    },
}

impl Plan {
    /// Bytes of all files, as far as the hub tells.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// The weight files.
    pub fn weights(&self) -> impl Iterator<Item = &RemoteFile> {
        let is =
            |file: &&RemoteFile| file.name.ends_with(".safetensors") || file.name.ends_with(".bin") || file.is_gguf();
        self.files.iter().filter(is)
    }

    /// The GGUF file, where the model is one.
    #[must_use]
    pub fn gguf(&self) -> Option<&RemoteFile> {
        self.files.first().filter(|file| file.is_gguf())
    }
}

impl Hub {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { client: Client::new(&settings), cache: Cache::new(settings.cache.clone()), settings }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Asks the hub what there is of a model, and chooses what it needs to run.
    ///
    /// # Errors
    /// What the network or the hub says, `NoModel` if it is none that could run, `Offline`.
    pub fn plan(&self, id: &ModelId) -> Result<Plan> {
        if self.settings.offline {
            return Err(Error::Offline { what: id.to_string() });
        }
        let listing = Listing::parse(&self.client.listing(id)?, id)?;
        if let Some(file) = listing.gguf(id)? {
            let files = vec![file.clone()];
            return Ok(Plan { id: id.clone(), commit: listing.commit.clone(), files, index: None });
        }
        let mut files = listing.small_files(id)?;
        let weights = listing.weights(id)?.clone();
        let mut plan = Plan { id: id.clone(), commit: listing.commit.clone(), files: Vec::new(), index: None };
        if weights.name.ends_with(".index.json") {
            let index = self.read(&plan, &weights.name)?;
            let shards = listing.shards(&weights.name, &index, id)?;
            plan.index = Some(index);
            files.push(weights);
            files.extend(shards);
        } else {
            files.push(weights);
        }
        plan.files = files;
        Ok(plan)
    }

    /// A small file as a whole, without keeping it.
    ///
    /// # Errors
    /// As [`Hub::plan`].
    pub fn read(&self, plan: &Plan, file: &str) -> Result<Vec<u8>> {
        let url = self.client.file_url(&plan.id, &plan.commit, file);
        let what = format!("{file} in {}", plan.id);
        self.client.retrying(&mut || client::read_all(self.client.open(&url, None, &what, &plan.id)?, &url))
    }

    /// The beginning of a safetensors file, up to the end of its header at least.
    ///
    /// # Errors
    /// As [`Hub::plan`].
    pub fn header(&self, plan: &Plan, file: &RemoteFile) -> Result<Vec<u8>> {
        let fail = |problem: &str| Error::Server { what: file.name.clone(), problem: problem.to_owned() };
        let size = file.size.unwrap_or(u64::MAX);
        let start = self.range(plan, &file.name, START.min(size))?;
        let prefix: [u8; 8] = start.get(..8).and_then(|b| b.try_into().ok()).ok_or_else(|| fail("it is too short"))?;
        let needed = u64::from_le_bytes(prefix).saturating_add(8);
        if needed > MAX_HEADER.min(size) {
            return Err(fail("it is no safetensors file"));
        }
        if needed <= start.len() as u64 { Ok(start) } else { self.range(plan, &file.name, needed) }
    }

    /// The first bytes of a file: so many, or all there are.
    ///
    /// # Errors
    /// As [`Hub::plan`].
    pub fn beginning(&self, plan: &Plan, file: &RemoteFile, count: u64) -> Result<Vec<u8>> {
        self.range(plan, &file.name, count.min(file.size.unwrap_or(u64::MAX)))
    }

    /// The first bytes of a file.
    fn range(&self, plan: &Plan, file: &str, count: u64) -> Result<Vec<u8>> {
        let url = self.client.file_url(&plan.id, &plan.commit, file);
        let what = format!("{file} in {}", plan.id);
        self.client.retrying(&mut || {
            let part = Part::Between(0, count.saturating_sub(1));
            let response = self.client.open(&url, Some(part), &what, &plan.id)?;
            let mut bytes = Vec::new();
            // A server without ranges sends all of it, which is not waited for.
            let read = response.into_body().into_reader().take(count).read_to_end(&mut bytes);
            read.map_err(|e| Error::Network { url: shown(&url), message: e.to_string() })?;
            Ok(bytes)
        })
    }

    /// Whether the disk has room for what is missing, as far as the hub tells how much that is.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn check_space(&self, plan: &Plan) -> Result<()> {
        let missing = plan.files.iter().map(|file| {
            let blob = file.hash.as_ref().map_or("", |hash| hash.hex());
            self.cache.missing(&plan.id, blob, file.size.unwrap_or(0))
        });
        let needed = missing.fold(0, u64::saturating_add);
        match self.cache.room() {
            Some(available) if needed > available => {
                Err(Error::NoSpace { path: self.cache.root().to_owned(), needed, available })
            }
            _ => Ok(()),
        }
    }

    /// Fetches what is missing. What came is kept whatever happens, and the model is found in the cache once all of it is
    /// there.
    ///
    /// # Errors
    /// As [`Hub::plan`]; `NoSpace`, `WrongHash`, `Broken`, `Io`; `Stopped` if `watch` said so.
    pub fn pull(&self, plan: &Plan, watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Pulled> {
        if self.settings.offline {
            return Err(Error::Offline { what: plan.id.to_string() });
        }
        self.check_space(plan)?;
        let (client, cache, id, commit) = (&self.client, &self.cache, &plan.id, &plan.commit);
        let (mut bytes, mut fetched) = (0, 0);
        let mut links = Vec::new();
        for file in &plan.files {
            let mut of_all = |event: Event<'_>| match event {
                Event::Bytes { done } => watch(Event::Bytes { done: bytes + done }),
                other => watch(other),
            };
            let (blob, came) = Download { client, cache, id, commit, file }.run(&mut of_all)?;
            let path = cache.repo(id).join("blobs").join(&blob);
            bytes += std::fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?.len();
            fetched += came;
            tell(watch, Event::Bytes { done: bytes })?;
            links.push((file, blob));
        }
        for (file, blob) in links {
            cache.link(id, commit, &file.name, &blob)?;
        }
        cache.set_ref(id, commit)?;
        let folder = cache.snapshot_path(id, commit);
        let path = plan.gguf().map_or_else(|| folder.clone(), |file| folder.join(&file.name));
        Ok(Pulled { path, bytes, fetched })
    }
}
