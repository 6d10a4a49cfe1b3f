//! Saved states taken apart and put together again, honestly and otherwise. The layout is written out here once more on
//! purpose: it is a format that other versions must be able to refuse.

use std::fmt;
use std::ops::Deref;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The bytes of a saved state. A failed comparison shows header and checksum, not every byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Saved(pub Vec<u8>);

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}, checksum {:02x?}", self.len(), header(self), &self[self.len() - CHECKSUM..])
    }
}

impl Deref for Saved {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Where the version stands.
pub const VERSION_AT: usize = 8;
/// Where the header's length stands.
pub const LENGTH_AT: usize = 12;
/// Where the header starts.
pub const HEADER_AT: usize = 16;
/// Bytes of the checksum.
pub const CHECKSUM: usize = 8;

/// The word at a place.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Overwrites the word at a place.
pub fn set_word(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Where the tensors start.
#[must_use]
pub fn tensors_at(bytes: &[u8]) -> usize {
    HEADER_AT + word(bytes, LENGTH_AT) as usize
}

/// The header.
///
/// # Panics
/// If it is not JSON.
#[must_use]
pub fn header(bytes: &[u8]) -> Value {
    serde_json::from_slice(&bytes[HEADER_AT..tensors_at(bytes)]).unwrap()
}

/// Where a tensor starts, by its name, and its length in bytes.
///
/// # Panics
/// If there is none of the name.
#[must_use]
pub fn tensor(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let mut at = tensors_at(bytes);
    for entry in header(bytes)["tensors"].as_array().unwrap() {
        let length = 4 * (entry["rows"].as_u64().unwrap() * entry["cols"].as_u64().unwrap()) as usize;
        if entry["name"] == name {
            return at..at + length;
        }
        at += length;
    }
    panic!("no tensor `{name}` in {}", header(bytes));
}

/// The same bytes with the checksum that belongs to them.
#[must_use]
pub fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - CHECKSUM;
    let digest = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest[..CHECKSUM]);
    bytes
}

/// The same state with another header, resealed.
#[must_use]
pub fn with_header(bytes: &[u8], header: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    reseal([&bytes[..LENGTH_AT], &length, header, &bytes[tensors_at(bytes)..]].concat())
}

/// The same state with a changed header, resealed.
#[must_use]
pub fn edit_header(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = header(bytes);
    edit(&mut value);
    with_header(bytes, value.to_string().as_bytes())
}
