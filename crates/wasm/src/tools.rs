//! What a download needs to know and to compute.

use sha2::Digest;
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::convert::{to_js, to_js_error};

/// A hash of bytes that come in pieces; a browser's own wants them all at once.
#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(sha2::Sha256);

#[wasm_bindgen]
impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes so far, in hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.clone().finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The files that an index of shards names.
///
/// # Errors
/// An index that is none.
#[wasm_bindgen(unchecked_return_type = "string[]")]
pub fn shards(index: &[u8]) -> Result<JsValue> {
    to_js(&taipan::Headers::shards(index).map_err(|e| to_js_error(&e))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hash_to_what_the_whole_does() {
        let mut hash = Sha256::new();
        hash.update(b"a");
        hash.update(b"bc");
        assert_eq!(hash.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
