//! A vocabulary whose text a test chooses, as a byte-level `tokenizer.json`.

use serde_json::{Map, Value, json};

/// Tokens by the bytes that they stand for; one of them may be the special token that ends a text.
#[derive(Clone, Debug)]
pub struct Pieces {
    bytes: Vec<Vec<u8>>,
    end: Option<usize>,
}

/// How the special token is spelled, in a list of pieces and in text.
pub const END: &str = "<|end|>";

impl Pieces {
    /// One token for each piece, in order; [`END`] is the special one.
    ///
    /// # Panics
    /// If two pieces are equal: a vocabulary cannot hold both.
    #[must_use]
    pub fn new<T: AsRef<[u8]>>(pieces: &[T]) -> Self {
        let bytes: Vec<Vec<u8>> = pieces.iter().map(|p| p.as_ref().to_vec()).collect();
        let mut sorted = bytes.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), bytes.len(), "pieces are distinct");
        let end = bytes.iter().position(|b| b == END.as_bytes());
        Self { bytes, end }
    }

    /// Cuts a text into pieces of the given byte lengths, repeated as needed. Characters may be cut.
    ///
    /// # Panics
    /// If two pieces are equal, or a length is 0.
    #[must_use]
    pub fn cut(text: &str, lengths: &[usize]) -> Self {
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for &length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            assert!(length > 0, "a piece has bytes");
            let (piece, tail) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        Self::new(&pieces)
    }

    /// Letters, whole and broken characters of two, three and four bytes, and the special token: what a random model says
    /// with these is full of unfinished and invalid characters.
    #[must_use]
    pub fn mixed() -> Self {
        let mut pieces: Vec<Vec<u8>> =
            ["a", "b", "ab", "ba", " ", " a", "\n", "é", "€", "🐍", "é€", END].map(|s| s.as_bytes().to_vec()).to_vec();
        let parts: [&[u8]; 10] = [
            &[0xc3],
            &[0xa9],
            &[0xe2],
            &[0x82],
            &[0xac],
            &[0xe2, 0x82],
            &[0xf0, 0x9f],
            &[0x90],
            &[0x8d],
            &[0xa9, b'a'],
        ];
        pieces.extend(parts.map(<[u8]>::to_vec));
        Self::new(&pieces)
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The special token's id.
    #[must_use]
    pub fn end(&self) -> Option<usize> {
        self.end
    }

    /// The bytes of a list of ids; the special token has none.
    #[must_use]
    pub fn bytes_of(&self, ids: &[u32]) -> Vec<u8> {
        let text = ids.iter().filter(|id| Some(**id as usize) != self.end);
        text.flat_map(|id| &self.bytes[*id as usize]).copied().collect()
    }

    pub(crate) fn tokenizer_json(&self) -> Vec<u8> {
        let mut vocab = Map::new();
        for (id, bytes) in self.bytes.iter().enumerate() {
            let special = Some(id) == self.end;
            let token = if special { END.to_owned() } else { bytes.iter().map(|b| char_of_byte(*b)).collect() };
            vocab.insert(token, id.into());
        }
        let added: Vec<Value> = self.end.iter().map(|id| special(*id)).collect();
        let byte_level =
            json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
        let model = json!({ "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [] });
        let file = json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
            "model": model });
        file.to_string().into_bytes()
    }
}

fn special(id: usize) -> Value {
    json!({ "id": id, "content": END, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true })
}

/// The character that stands for a byte in a byte-level vocabulary.
fn char_of_byte(byte: u8) -> char {
    let code = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte) - 0x7f,
        0xad => 0x143,
    };
    char::from_u32(code).expect("these code points are characters")
}
