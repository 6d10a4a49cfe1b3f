//! A session's state as bytes, in one canonical form for every device.
//!
//! `TAIPANST`, format version (u32), header length (u32), header (JSON), tensors, checksum (u64). Tensors are little-endian
//! f32 or u32, dense, in the order of the header: recurrent states as they are, rings as their newest entries, oldest first.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taipan_kernels::{BufferDesc, BufferId, Element};
use taipan_reference::sal;

use super::{AttentionBound, Session};
use crate::description::Description;
use crate::error::{Error, Result, SavedStateProblem};
use crate::model::{Inner, hex};
use crate::tokenizer::TextDecoder;

const MAGIC: &[u8; 8] = b"TAIPANST";
const VERSION: u32 = 1;
const PREFIX: usize = 16;
const CHECKSUM: usize = 8;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    fingerprint: String,
    consumed: u32,
    pending: Option<u32>,
    bound: Option<[u32; 2]>,
    text: Text,
    tensors: Vec<Entry>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Text {
    held: String,
    bytes: Vec<u8>,
    ids: Vec<u32>,
    shown: usize,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    rows: usize,
    cols: usize,
}

/// A buffer that is part of the saved form; a ring's slot is its position modulo its rows, a cache has a row for every
/// token.
struct Part<'a> {
    id: BufferId,
    desc: &'a BufferDesc,
    rows: usize,
    ring: bool,
    cache: bool,
}

fn parts(d: &Description, consumed: u32) -> Vec<Part<'_>> {
    let common = &d.common;
    let skipped = [common.control, common.ids, common.options];
    let mut rings = vec![common.recent];
    rings.extend(d.rings());
    let caches: Vec<BufferId> = d.caches().collect();
    let all = d.state.list().iter().zip(0..).map(|(desc, i)| (BufferId::State(i), desc));
    let part = |(id, desc): (BufferId, _)| {
        let desc: &BufferDesc = desc;
        let cache = caches.contains(&id);
        let rows = if cache { consumed as usize } else { desc.rows };
        Part { id, desc, rows, ring: rings.contains(&id), cache }
    };
    all.filter(|(id, _)| !skipped.contains(id)).map(part).collect()
}

impl Part<'_> {
    fn words(&self) -> usize {
        self.rows.saturating_mul(self.desc.cols)
    }

    /// Entries of a ring and words of one entry.
    fn entries(&self) -> (usize, usize) {
        if self.desc.element == Element::U32 { (self.desc.cols, 1) } else { (self.desc.rows, self.desc.cols) }
    }

    /// Rotates a ring so that the oldest entry comes first (or back).
    fn rotate(&self, words: &mut [u32], consumed: u32, back: bool) {
        if self.ring {
            let (slots, width) = self.entries();
            let oldest = consumed as usize % slots * width;
            if back { words.rotate_right(oldest) } else { words.rotate_left(oldest) }
        }
    }

    fn entry(&self) -> Entry {
        Entry { name: self.desc.name.clone(), rows: self.rows, cols: self.desc.cols }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

fn problem(problem: SavedStateProblem) -> Error {
    Error::SavedState { problem }
}

impl Session {
    /// The whole state as bytes; [`Session::restore`] brings it back, on this device bit for bit, on another within
    /// tolerance.
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_model.rs")); }
    /// # use example::*;
    /// # pollster::block_on(async {
    /// # let model = example_model().await?;
    /// let mut session = model.session(Default::default())?;
    /// session.prefill(&[7, 8, 9]).await?;
    /// let bytes = session.save().await?;
    ///
    /// // Later, perhaps in another process.
    /// let mut other = model.session(Default::default())?;
    /// other.restore(&bytes).await?;
    /// assert_eq!(other.position(), 3);
    /// assert_eq!(other.decode(10).await?, session.decode(10).await?);
    /// # Ok::<_, taipan::Error>(())
    /// # })?;
    /// # Ok::<_, taipan::Error>(())
    /// ```
    ///
    /// # Errors
    /// A device error.
    pub async fn save(&mut self) -> Result<Vec<u8>> {
        self.catch_up().await?;
        let model = self.model.0.clone();
        let parts = parts(&model.description, self.consumed);
        let header = Header {
            fingerprint: hex(&model.fingerprint),
            consumed: self.consumed,
            pending: self.pending,
            bound: self.bound.map(|b| [b.rate, b.burst]),
            text: Text {
                held: self.held.clone(),
                bytes: self.decoder.bytes.clone(),
                ids: self.decoder.ids.clone(),
                shown: self.decoder.shown,
            },
            tensors: parts.iter().map(Part::entry).collect(),
        };
        let header = serde_json::to_vec(&header).expect("a header is plain data");
        let mut out = Vec::from(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((header.len() as u32).to_le_bytes());
        out.extend(header);
        for part in &parts {
            let mut words = self.memory.read_dense(&model, part.id).await?;
            words.truncate(part.words());
            part.rotate(&mut words, self.consumed, false);
            out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        }
        out.extend(checksum(&out).to_le_bytes());
        Ok(out)
    }

    /// Replaces the state by a saved one, the attention bound included. On error the session is as it was.
    ///
    /// ```
    /// use taipan::Error;
    ///
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_model.rs")); }
    /// # use example::*;
    /// # pollster::block_on(async {
    /// # let model = example_model().await?;
    /// let mut session = model.session(Default::default())?;
    /// session.prefill(&[7, 8, 9]).await?;
    /// let mut bytes = session.save().await?;
    ///
    /// let middle = bytes.len() / 2;
    /// bytes[middle] ^= 1; // a damaged file
    /// let error = session.restore(&bytes).await.unwrap_err();
    /// assert!(matches!(error, Error::SavedState { .. }), "{error}");
    /// assert_eq!(session.position(), 3); // nothing happened
    /// # Ok::<_, taipan::Error>(())
    /// # })?;
    /// # Ok::<_, taipan::Error>(())
    /// ```
    ///
    /// # Errors
    /// `SavedState` with what is wrong: not a state, another version, another model, damaged.
    #[expect(clippy::unused_async, reason = "uploads may have to wait on other devices; callers already await")]
    pub async fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.come_back()?;
        let model = self.model.0.clone();
        let (header, parts, data) = parse(bytes, &model)?;
        let bound = check_bound(&header)?;
        let mut tensors = split(&parts, data);
        check_buckets(bound, &model, &parts, &tensors)?;
        self.reserve(header.consumed)?;
        let capacity = self.memory.capacity(&model);
        for (part, words) in parts.iter().zip(&mut tensors) {
            part.rotate(words, header.consumed, true);
            if part.cache {
                words.resize(capacity * part.desc.cols, 0);
            }
            self.memory.write_dense(&model, part.id, words);
        }
        self.memory.write(&model, model.description.common.control, 0, &[header.consumed, 0]);
        self.tokens_word = 0;
        self.consumed = header.consumed;
        self.pending = header.pending;
        self.pending_on_device = false;
        self.trace = self.no_gates();
        self.bound = bound;
        self.held = header.text.held;
        self.decoder = TextDecoder { bytes: header.text.bytes, ids: header.text.ids, shown: header.text.shown };
        match model.device.as_gpu() {
            Some(gpu) => Ok(gpu.check()?),
            None => Ok(()),
        }
    }
}

/// The words of each part.
fn split(parts: &[Part<'_>], mut data: &[u8]) -> Vec<Vec<u32>> {
    let words = |part: &Part<'_>| {
        let (mine, rest) = data.split_at(4 * part.words());
        data = rest;
        mine.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    };
    parts.iter().map(words).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Checks everything before anything is touched; returns the header, what there is, and the bytes of that.
fn parse<'a, 'm>(bytes: &'a [u8], model: &'m Inner) -> Result<(Header, Vec<Part<'m>>, &'a [u8])> {
    if !bytes.starts_with(MAGIC) {
        return Err(problem(SavedStateProblem::NotAState));
    }
    let truncated = |expected: usize| {
        problem(SavedStateProblem::Truncated { expected: expected as u64, found: bytes.len() as u64 })
    };
    if bytes.len() < PREFIX {
        return Err(truncated(PREFIX));
    }
    let version = word(bytes, 8);
    if version != VERSION {
        return Err(problem(SavedStateProblem::Version { found: version, expected: VERSION }));
    }
    let header_len = word(bytes, 12) as usize;
    if bytes.len() - PREFIX < header_len {
        return Err(truncated(PREFIX.saturating_add(header_len)));
    }
    let header: Header = serde_json::from_slice(&bytes[PREFIX..PREFIX + header_len])
        .map_err(|_| problem(SavedStateProblem::NotAState))?;
    let parts = parts(&model.description, header.consumed);
    check_header(&header, model, &parts)?;
    let data_len = parts.iter().fold(0usize, |sum, p| sum.saturating_add(p.words().saturating_mul(4)));
    let end = data_len.saturating_add(PREFIX + header_len + CHECKSUM);
    if bytes.len() < end {
        return Err(truncated(end));
    }
    if bytes.len() > end {
        return Err(problem(SavedStateProblem::TrailingBytes { extra: (bytes.len() - end) as u64 }));
    }
    let (body, sum) = bytes.split_at(end - CHECKSUM);
    let (expected, found) = (checksum(body), u64::from_le_bytes(sum.try_into().expect("eight bytes")));
    if expected != found {
        return Err(problem(SavedStateProblem::Checksum { expected, found }));
    }
    Ok((header, parts, &body[PREFIX + header_len..]))
}

fn check_header(header: &Header, model: &Inner, parts: &[Part<'_>]) -> Result<()> {
    let expected = hex(&model.fingerprint);
    if header.fingerprint != expected {
        return Err(problem(SavedStateProblem::Fingerprint { found: header.fingerprint.clone(), expected }));
    }
    let shape = |field: &str, expected: String, found: String| {
        Err(problem(SavedStateProblem::Shape { field: field.to_owned(), expected, found }))
    };
    if header.tensors.len() != parts.len() {
        return shape("tensors", parts.len().to_string(), header.tensors.len().to_string());
    }
    if let Some((part, entry)) = parts.iter().zip(&header.tensors).find(|(part, entry)| part.entry() != **entry) {
        return shape(&part.desc.name, format!("{:?}", part.entry()), format!("{entry:?}"));
    }
    let vocab = model.config.vocab_size;
    let known = |id: &u32| (*id as usize) < vocab;
    if let Some(id) = header.pending.iter().chain(&header.text.ids).find(|id| !known(id)) {
        return shape("token id", format!("below {vocab}"), id.to_string());
    }
    if header.text.shown > header.text.ids.len() {
        return shape("text.shown", format!("at most {}", header.text.ids.len()), header.text.shown.to_string());
    }
    if header.consumed == 0 && (header.pending.is_some() || header.text != Text::default()) {
        let found = format!("pending {:?}, {:?}", header.pending, header.text);
        return shape("pending, text", "nothing before the first token is consumed".to_owned(), found);
    }
    Ok(())
}

fn check_bound(header: &Header) -> Result<Option<AttentionBound>> {
    let Some(words) = header.bound else { return Ok(None) };
    let bound = AttentionBound::from_words(words).ok_or_else(|| {
        let (field, expected) = ("bound".to_owned(), "a rate and burst that `AttentionBound` gives".to_owned());
        problem(SavedStateProblem::Shape { field, expected, found: format!("{words:?}") })
    })?;
    Ok(Some(bound))
}

/// The buckets compute with unchecked sums, which only these values keep from overflowing.
fn check_buckets(bound: Option<AttentionBound>, model: &Inner, parts: &[Part<'_>], tensors: &[Vec<u32>]) -> Result<()> {
    let (rate, burst) = bound.map_or((0, 0), |b| (b.rate, b.burst));
    let layers: Vec<BufferId> = model.description.sals().map(|layer| layer.sal).collect();
    for (part, words) in parts.iter().zip(tensors).filter(|(part, _)| layers.contains(&part.id)) {
        if words[sal::RATE] != rate || words[sal::BURST] != burst || words[sal::CREDIT] > burst {
            let expected = format!("rate {rate}, burst {burst} and no more credit than that");
            let found = format!("{:?}", [sal::RATE, sal::BURST, sal::CREDIT].map(|i| words[i]));
            return Err(problem(SavedStateProblem::Shape { field: part.desc.name.clone(), expected, found }));
        }
    }
    Ok(())
}
