use proptest::prelude::*;

use super::*;

fn embedded() -> Tokenizer {
    static TOKENIZER: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    let load = || Tokenizer::from_bytes(include_bytes!("../../../cli/model/tokenizer.json")).unwrap();
    TOKENIZER.get_or_init(load).clone()
}

/// A vocabulary as Llama's: pieces with a word mark, and one token for each byte.
fn byte_fallback() -> Tokenizer {
    let mut vocab = serde_json::Map::new();
    vocab.insert("<unk>".into(), 0.into());
    for byte in 0..=255u32 {
        vocab.insert(format!("<0x{byte:02X}>"), (byte + 1).into());
    }
    for piece in ["▁", "a", "b", "▁a", "▁b", "ab"] {
        let id = vocab.len();
        vocab.insert(piece.into(), id.into());
    }
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{ "id": 300, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true }],
        "normalizer": { "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }] },
        "pre_tokenizer": null, "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "ByteFallback" },
            { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
        "model": { "type": "BPE", "dropout": 0.9, "unk_token": "<unk>", "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                   "merges": [["▁", "a"], ["▁", "b"], ["a", "b"]] }
    });
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = TextDecoder::default();
    let mut text = String::new();
    for &id in ids {
        text += &decoder.push(tokenizer, id).unwrap();
        assert!(decoder.bytes.len() <= 3, "holds {:?}", decoder.bytes);
    }
    text + &decoder.finish(tokenizer).unwrap()
}

/// The token of a single byte.
fn byte_token(tokenizer: &Tokenizer, byte: u8) -> u32 {
    (0..tokenizer.vocab_size() as u32)
        .find(|&id| tokenizer.token_bytes(id) == Some(vec![byte]))
        .expect("a byte-level vocabulary has every byte")
}

#[test]
fn text_survives_the_round_trip() {
    let t = embedded();
    assert_eq!(t.vocab_size(), 4096);
    for text in
        ["", " ", "Once upon a time", "  two  spaces\n\n\ttab\r\n", "naïve café — 日本語 🐍🧑‍🚀", "\0\u{1}\u{fffd}"]
    {
        let ids = t.encode(text).unwrap();
        assert_eq!(t.decode(&ids).unwrap(), text);
        assert_eq!(stream(&t, &ids), text);
    }
}

#[test]
fn specials_are_recognised_and_nothing_is_added() {
    let t = embedded();
    assert_eq!(t.id_of("<|endoftext|>"), Some(0));
    assert_eq!(t.id_of("no such token"), None);
    assert_eq!(t.encode("").unwrap(), [0; 0]);
    let plain = t.encode("Once").unwrap();
    let ids = t.encode("<|endoftext|>Once").unwrap();
    assert_eq!(ids, [&[0], &plain[..]].concat());
    assert_eq!(t.decode(&ids).unwrap(), "Once");
}

#[test]
fn padding_truncation_and_dropout_of_the_file_do_not_apply() {
    let mut file: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../../cli/model/tokenizer.json")).unwrap();
    file["padding"] = serde_json::json!({ "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>" });
    file["truncation"] =
        serde_json::json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    file["model"]["dropout"] = 1.0.into();
    let changed = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    let text = "Once upon a time there was a prompt.";
    assert_eq!(changed.encode(text).unwrap(), embedded().encode(text).unwrap());
}

#[test]
fn a_character_split_over_tokens_comes_whole() {
    let t = embedded();
    let mut decoder = TextDecoder::default();
    let bytes = "🐍".as_bytes();
    let mut pieces = Vec::new();
    for &b in bytes {
        pieces.push(decoder.push(&t, byte_token(&t, b)).unwrap());
    }
    assert_eq!(pieces, ["", "", "", "🐍"]);
    assert_eq!(decoder, TextDecoder::default());
}

#[test]
fn the_complete_part_of_a_token_is_not_held() {
    let t = embedded();
    let mut decoder = TextDecoder { bytes: b"ab\xf0\x9f".to_vec(), ..TextDecoder::default() };
    assert_eq!(decoder.push(&t, byte_token(&t, 0x90)).unwrap(), "ab");
    assert_eq!(decoder.bytes, b"\xf0\x9f\x90");
    assert_eq!(decoder.finish(&t).unwrap(), "\u{fffd}");
    assert_eq!(decoder.finish(&t).unwrap(), "");
}

#[test]
fn broken_bytes_are_not_held_for_ever() {
    let t = embedded();
    let ids: Vec<u32> = [0x80, 0xff, 0xe2, 0x28, 0xf0, 0x9f, b'a', 0xe2, 0x82].map(|b| byte_token(&t, b)).into();
    assert_eq!(stream(&t, &ids), t.decode(&ids).unwrap());
    let mut decoder = TextDecoder::default();
    for _ in 0..100 {
        assert_eq!(decoder.push(&t, byte_token(&t, 0x80)).unwrap(), "\u{fffd}");
    }
}

#[test]
fn byte_fallback_vocabularies_stream_the_same_text() {
    let t = byte_fallback();
    for text in ["a b", "ab ab  b", "é", "🐍🐍🐍 a €€€€€€", "a🐍b", "日本語日本語"] {
        let ids = t.encode(text).unwrap();
        assert_eq!(t.decode(&ids).unwrap(), text);
        assert_eq!(stream(&t, &ids), text, "{ids:?}");
    }
    // A special token between two words keeps the space between them.
    let (a, b) = (t.id_of("▁a").unwrap(), t.id_of("▁b").unwrap());
    let special = t.id_of("<s>").unwrap();
    assert_eq!(stream(&t, &[special, a, special, b, special, a]), "a b a");
    assert_eq!(stream(&t, &[&[a], &[special; 20][..], &[b]].concat()), "a b");
    // A broken run comes out in bounded time, and what follows is whole again.
    let broken = [t.id_of("<0x80>").unwrap(); 30];
    let text = stream(&t, &[&broken[..], &[a, b]].concat());
    assert!(text.starts_with("\u{fffd}\u{fffd}") && text.ends_with(" a b"), "{text:?}");
}

#[test]
fn long_runs_encode_in_reasonable_time() {
    let t = embedded();
    for unit in [" ", "a", "\n", "é", "<|endoftext|>", "'s"] {
        let text = unit.repeat(100_000 / unit.len());
        let ids = t.encode(&text).unwrap();
        assert!(!ids.is_empty() && ids.len() <= text.len(), "{unit:?}");
    }
}

#[test]
fn bad_files_are_typed_errors() {
    for bytes in [&b""[..], b"{}", b"[]", b"\xff\xfe", b"{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\"}}", b"null"] {
        let error = Tokenizer::from_bytes(bytes).unwrap_err();
        assert_eq!(error.code(), "tokenizer");
        assert!(error.hint().is_some());
    }
    let dir = crate::fsutil::test_dir::TestDir::new();
    let file = dir.write("tokenizer.json", "{}");
    let error = Tokenizer::from_file(&file).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: not a tokenizer: ", file.display())), "{error}");
    let error = Tokenizer::from_file(Path::new("no/such/tokenizer.json")).unwrap_err();
    assert_eq!((error.code(), error.hint().as_deref()), ("io", Some("check the path")));
}

#[test]
fn the_byte_table_is_a_bijection() {
    let mut seen = [false; 256];
    for c in (0..0x200).filter_map(char::from_u32) {
        if let Some(byte) = byte_of_char(c) {
            assert!(!std::mem::replace(&mut seen[usize::from(byte)], true), "{c:?}");
        }
    }
    assert!(seen.iter().all(|&s| s));
    assert_eq!([byte_of_char('Ġ'), byte_of_char('Ċ'), byte_of_char(' ')], [Some(b' '), Some(b'\n'), None]);
}

proptest! {
    /// Any ids, unknown ones included, and any place to save and go on: the pieces joined are the whole.
    #[test]
    fn pieces_join_to_the_whole(ids in prop::collection::vec(0u32..4200, 0..60)) {
        let t = embedded();
        prop_assert_eq!(stream(&t, &ids), t.decode(&ids).unwrap());
    }

    #[test]
    fn any_bytes_stream_to_their_lossy_text(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let t = embedded();
        let mut decoder = TextDecoder::default();
        let mut text = String::new();
        for &b in &bytes {
            decoder.bytes.push(b);
            text += &decoder.take_text(false);
        }
        text += &decoder.finish(&t).unwrap();
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_round_trips(text in "\\PC{0,60}") {
        let t = embedded();
        let ids = t.encode(&text).unwrap();
        prop_assert_eq!(t.decode(&ids).unwrap(), text.replace("<|endoftext|>", ""));
    }

    /// A decoder restored from anywhere may give odd text, but no panic.
    #[test]
    fn a_strange_state_is_harmless(
        bytes in prop::collection::vec(any::<u8>(), 0..8),
        ids in prop::collection::vec(any::<u32>(), 0..8),
        shown in any::<usize>(),
        next in prop::collection::vec(0u32..400, 1..20),
    ) {
        for t in [embedded(), byte_fallback()] {
            let mut decoder = TextDecoder { bytes: bytes.clone(), ids: ids.clone(), shown };
            for &id in &next {
                decoder.push(&t, id).unwrap();
            }
            decoder.finish(&t).unwrap();
        }
    }
}
