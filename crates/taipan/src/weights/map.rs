//! Bytes of a weight file: mapped where the system can, in memory otherwise.
//!
//! Here is one `unsafe` of this crate; the other is in `memory/pages.rs`.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of one file.
#[derive(Debug)]
pub(super) enum Bytes {
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
    InMemory(Cow<'static, [u8]>),
}

impl Bytes {
    /// Maps the file, so that only the pages that are read take memory.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn map(file: &File) -> io::Result<Bytes> {
        // SAFETY: the map is private to this type, read-only, and never handed out as anything but `&[u8]`. What Rust
        // cannot rule out is another process writing to or truncating the file while it is mapped. We accept that, as
        // every loader of weights does: nothing is derived from mapped bytes that a later change could invalidate, since
        // headers are parsed once from the mapping's bounds, ranges are checked against its fixed length, and weights
        // are only ever copied out as numbers, for which any bit pattern is valid. A truncated file then means SIGBUS,
        // which ends the process, not a wild read.
        unsafe { memmap2::Mmap::map(file) }.map(Bytes::Mapped)
    }

    /// Reads the file, where there is nothing to map with.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn map(mut file: &File) -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(Bytes::InMemory(bytes.into()))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Bytes::Mapped(map) => map,
            Bytes::InMemory(bytes) => bytes,
        }
    }
}
