//! The tokenizer of published Mamba-2 models, and the embedded one, against the ids that another build of the same library
//! makes, which has another regex engine.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::Value;
use taipan::{TextDecoder, Tokenizer};

const IDS: &str = include_str!("../golden/tokenizers/ids.json");

fn neox() -> Tokenizer {
    let packed = include_bytes!("../golden/tokenizers/gpt-neox-20b.tokenizer.json.gz");
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut json).expect("it is packed with gzip");
    Tokenizer::from_bytes(&json).expect("it is valid")
}

fn embedded() -> Tokenizer {
    Tokenizer::from_bytes(include_bytes!("../../crates/cli/model/tokenizer.json")).expect("it is valid")
}

/// Texts with their ids and what these decode to.
fn cases(name: &str) -> Vec<(String, Vec<u32>, String)> {
    let all: BTreeMap<String, Vec<Value>> = serde_json::from_str(IDS).expect("it is JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let ids = |value: &Value| serde_json::from_value(value.clone()).expect("a list of ids");
    let cases: Vec<_> = all[name].iter().map(|c| (text(&c["text"]), ids(&c["ids"]), text(&c["decoded"]))).collect();
    assert!(cases.len() > 30, "{} cases", cases.len());
    cases
}

/// The text of ids as it comes, token by token.
fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut decoder = TextDecoder::default();
    let mut pieces: Vec<_> = ids.iter().map(|id| decoder.push(tokenizer, *id).expect("it decodes")).collect();
    pieces.push(decoder.finish(tokenizer).expect("it decodes"));
    pieces
}

#[test]
fn ids_and_texts_are_those_of_the_other_engine() {
    for (name, tokenizer) in [("gpt-neox-20b", neox()), ("embedded", embedded())] {
        for (text, ids, decoded) in cases(name) {
            assert_eq!(tokenizer.encode(&text).expect("it encodes"), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids).expect("it decodes"), decoded, "{name}: {text:?}");
            assert_eq!(stream(&tokenizer, &ids).concat(), decoded, "{name}: {text:?}");
        }
    }
}

#[test]
fn texts_come_back_but_for_special_tokens_and_what_is_normalised() {
    let tokenizer = neox();
    let mut same = 0;
    for (text, ids, _) in cases("gpt-neox-20b") {
        let back = tokenizer.decode(&ids).expect("it decodes");
        let special = text.contains("<|endoftext|>") || text.contains("<|padding|>");
        // This tokenizer composes letters and their marks.
        let composed = back != text && tokenizer.encode(&back).expect("it encodes") == ids;
        assert!(back == text || special || composed, "{text:?} came back as {back:?}");
        same += usize::from(back == text);
    }
    assert!(same > 15, "{same} came back as they were");
}

#[test]
fn special_tokens_and_runs_of_blanks_are_known_by_their_spelling() {
    let t = neox();
    assert_eq!(t.vocab_size(), 50277);
    assert_eq!((t.id_of("<|endoftext|>"), t.id_of("<|padding|>")), (Some(0), Some(1)));
    assert_eq!(t.prefix(), [0; 0]);
    let once = t.encode("Once").expect("it encodes");
    assert_eq!(t.encode("<|endoftext|>Once").expect("it encodes"), [&[0], &once[..]].concat());
    assert_eq!(t.decode(&[0, 1]).expect("it decodes"), "");
    // A run of blanks is a token that is no special one: it is text.
    let blanks = " ".repeat(24);
    assert_eq!(t.encode(&blanks).expect("it encodes"), [50254]);
    assert_eq!(t.decode(&[50254]).expect("it decodes"), blanks);
    assert_eq!(stream(&t, &[50254]).concat(), blanks);
}

#[test]
fn an_emoji_of_several_tokens_comes_when_it_is_whole() {
    let t = neox();
    for (emoji, text) in [("🐍", "a🐍b"), ("🧑‍🚀", "🧑‍🚀!"), ("👩‍👩‍👧‍👦", "x 👩‍👩‍👧‍👦 y"), ("🇩🇪", "🇩🇪🇩🇪")]
    {
        let ids = t.encode(text).expect("it encodes");
        let pieces = stream(&t, &ids);
        assert!(ids.len() > 3 && pieces.iter().any(String::is_empty), "{emoji}: {pieces:?}");
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{emoji}: {pieces:?}");
        assert_eq!(pieces.concat(), text);
    }
    // Cut in the middle, its beginning is shown as what it is, broken, and not before the end.
    let ids = t.encode("🐍").expect("it encodes");
    let pieces = stream(&t, &ids[..ids.len() - 1]);
    assert_eq!((pieces.concat(), pieces.last()), ("\u{fffd}".to_owned(), Some(&"\u{fffd}".to_owned())));
}

/// Natively and in a browser the same engine splits texts, so that the same text has the same ids.
#[test]
fn there_is_one_regex_engine() {
    let lock = include_str!("../../Cargo.lock");
    let has = |name: &str| lock.lines().any(|line| line == format!("name = \"{name}\""));
    assert!(has("tokenizers") && has("fancy-regex"));
    for other in ["onig", "onig_sys", "pcre2"] {
        assert!(!has(other), "{other} splits texts too");
    }
}
