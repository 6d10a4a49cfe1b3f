//! Folders: single files, shards and their index, and what an index must not name.

use serde_json::json;

use super::*;
use crate::fsutil::test_dir::TestDir;

fn shard(names: &[&str]) -> Vec<u8> {
    let parts: Vec<_> = names.iter().map(|&n| (n, ElementType::F32, &[1][..], &[0u8; 4][..])).collect();
    serialize(&parts)
}

fn index(entries: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> = entries.iter().map(|&(t, f)| (t.to_owned(), json!(f))).collect();
    json!({ "metadata": { "total_size": 8 }, "weight_map": map }).to_string()
}

const INDEX: &str = "model.safetensors.index.json";

/// A folder with two shards of one tensor each, and this index.
fn folder(index: &str) -> TestDir {
    let dir = TestDir::new();
    dir.write("one.safetensors", shard(&["a"]));
    dir.write("two.safetensors", shard(&["b"]));
    dir.write(INDEX, index);
    dir
}

/// The error of all three ways to open a folder, which must be the same but for the folder in front of the file.
fn refused(dir: &TestDir) -> Error {
    let folder = format!("{}/", dir.display());
    for error in [Weights::open(dir).map(drop).unwrap_err(), Weights::open_headers(dir).map(drop).unwrap_err()] {
        assert_eq!(error.to_string(), format!("{folder}{}", refused_in_memory(dir)));
        assert!(error.code().starts_with("weights-"), "{error}");
    }
    refused_in_memory(dir)
}

fn refused_in_memory(dir: &TestDir) -> Error {
    let files = dir.names().into_iter().map(|name| {
        let bytes = std::fs::read(dir.join(&name)).unwrap();
        (name, Cow::Owned(bytes))
    });
    Weights::from_bytes(files.collect()).map(drop).unwrap_err()
}

#[test]
fn shards_load_as_one() {
    let dir = folder(&index(&[("b", "two.safetensors"), ("a", "one.safetensors")]));
    let w = Weights::open(&dir).unwrap();
    assert_eq!(&*w.get("a").unwrap().info.file, "one.safetensors");
    assert_eq!(&*w.get("b").unwrap().info.file, "two.safetensors");
    assert_eq!(w.headers().files.len(), 2);
    assert_eq!(w.get("c").unwrap_err().to_string(), "tensor `c` is missing from one.safetensors and 1 more file(s)");
    // A single file wins over an index, as everywhere.
    dir.write("model.safetensors", shard(&["c"]));
    assert!(Weights::open(&dir).unwrap().get("c").is_ok());
}

#[test]
fn an_index_stays_in_its_folder() {
    for entry in [
        "../one.safetensors",
        "..",
        ".",
        "",
        "/etc/passwd",
        "/one.safetensors",
        "sub/one.safetensors",
        "./one.safetensors",
        "sub\\one.safetensors",
        "..\\one.safetensors",
        "C:one.safetensors",
        "C:\\one.safetensors",
        "one.safetensors:s",
        "\\\\host\\one.safetensors",
        "one.safetensors\0",
        "one",
        "one.bin",
        ".safetensors",
        ".hidden.safetensors",
        "one\n.safetensors",
        "one.SAFETENSORS",
    ] {
        let dir = folder(&index(&[("a", "one.safetensors"), ("b", entry)]));
        match refused(&dir) {
            Error::ShardPath { file, entry: found } => assert_eq!((file.as_str(), found.as_str()), (INDEX, entry)),
            other => panic!("{entry:?}: {other}"),
        }
    }
    let dir = folder(&index(&[("a", "../one.safetensors")]));
    let error = refused(&dir);
    assert_eq!(
        error.to_string(),
        "model.safetensors.index.json: shard \"../one.safetensors\" is not a plain file name"
    );
    assert_eq!(error.code(), "weights-invalid");
}

#[test]
fn an_index_must_agree_with_its_shards() {
    let cases = [
        (
            index(&[("a", "one.safetensors"), ("c", "two.safetensors")]),
            "model.safetensors.index.json: tensor `c` is not in two.safetensors, where the index puts it",
        ),
        (
            index(&[("a", "two.safetensors"), ("b", "one.safetensors")]),
            "model.safetensors.index.json: tensor `a` is not in two.safetensors, where the index puts it",
        ),
        (
            index(&[("a", "one.safetensors"), ("b", "three.safetensors")]),
            "model.safetensors.index.json: shard three.safetensors is missing",
        ),
        (
            r#"{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}"#.to_owned(),
            "model.safetensors.index.json: `a` is listed twice",
        ),
        (
            r#"{"weight_map":{}}"#.to_owned(),
            "model.safetensors.index.json: not an index of shards: weight_map is empty",
        ),
        (
            r#"{"metadata":{}}"#.to_owned(),
            "model.safetensors.index.json: not an index of shards: missing field `weight_map` at line 1 column 15",
        ),
        (
            r#"{"weight_map":{"a":7}}"#.to_owned(),
            "model.safetensors.index.json: not an index of shards: invalid type: integer `7`, expected a string at line 1 \
          column 20",
        ),
        (
            "".to_owned(),
            "model.safetensors.index.json: not an index of shards: EOF while parsing a value at line 1 column 0",
        ),
    ];
    for (index, expected) in cases {
        let error = refused(&folder(&index));
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_tensor_is_in_one_shard_only() {
    let dir = folder(&index(&[("a", "one.safetensors"), ("b", "two.safetensors")]));
    dir.write("two.safetensors", shard(&["b", "a"]));
    assert_eq!(refused(&dir).to_string(), "two.safetensors: tensor `a` is in both one.safetensors and two.safetensors");
}

#[test]
fn a_damaged_shard_is_named() {
    let dir = folder(&index(&[("a", "one.safetensors"), ("b", "two.safetensors")]));
    let mut bytes = shard(&["b"]);
    bytes.pop();
    dir.write("two.safetensors", bytes);
    assert_eq!(
        refused(&dir).to_string(),
        "two.safetensors: tensor `b` ends at byte 4 of the data, the file holds 3 bytes of it"
    );
}

#[test]
fn what_is_no_weight_file() {
    let dir = TestDir::new();
    let error = Weights::open(&dir).unwrap_err();
    assert_eq!((error.code(), matches!(error, Error::NoWeights { .. })), ("weights-missing", true));
    assert_eq!(Weights::open(&dir.join("absent")).unwrap_err().code(), "io");
    let file = dir.write("file", "");
    let error = Weights::open(&file).unwrap_err();
    assert!(error.code() == "io" && error.hint().unwrap().contains("name the folder"), "{error}");
    std::fs::create_dir(dir.join("model.safetensors")).unwrap();
    let error = Weights::open(&dir).unwrap_err();
    assert!(error.code() == "io" && error.hint().unwrap().contains("put a regular file there"), "{error}");
    let one = dir.write("golden.safetensors", shard(&["x"]));
    assert!(Weights::open_file(&one).unwrap().get("x").is_ok());
}
