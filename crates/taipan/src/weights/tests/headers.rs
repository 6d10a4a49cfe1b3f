//! Files that lie, one lie each; then random ones.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::WeightsProblem as P;
use super::super::header::MAX_HEADER;
use super::*;
use crate::fsutil::test_dir::TestDir;

#[test]
fn a_plain_file_loads() {
    let w = load(file(
        r#"{"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]},
            "__metadata__":{"format":"pt"},
            "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "none":{"dtype":"F32","shape":[0,7],"data_offsets":[16,16]},
            "scalar":{"dtype":"I64","shape":[],"data_offsets":[16,24]}}   "#,
        24,
    ))
    .unwrap();
    let names: Vec<_> = w.headers().tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "none", "scalar"]);
    let b = w.get("b").unwrap();
    assert_eq!((b.dtype, b.bytes.len(), b.info.elements(), &b.info.shape[..]), (Dtype::BF16, 8, 4, &[2, 2][..]));
    assert_eq!(w.get_raw("scalar").unwrap().1.len(), 8);
    assert_eq!(
        w.get("scalar").unwrap_err().to_string(),
        "model.safetensors: tensor `scalar` is stored as I64; allowed: F32, F16, BF16"
    );
    assert_eq!(w.get("c").unwrap_err().to_string(), "tensor `c` is missing from model.safetensors");
    assert_eq!(w.headers().stored_bytes(), 24);
    assert_eq!(load(file("{}", 0)).unwrap().headers().tensors, []);
}

#[test]
fn the_length_field_is_not_believed() {
    for len in [0usize, 1, 7] {
        assert_eq!(problem(vec![0; len]), P::HeaderTruncated { needed: 8, found: len as u64 });
    }
    let claim = |len: u64| [&len.to_le_bytes()[..], b"{}"].concat();
    for len in [1 << 63, u64::MAX, u64::MAX - 7, MAX_HEADER + 1] {
        assert_eq!(problem(claim(len)), P::HeaderTooLong { len, max: MAX_HEADER });
    }
    for len in [3, 1 << 20, MAX_HEADER] {
        assert_eq!(problem(claim(len)), P::HeaderTruncated { needed: len + 8, found: 10 });
    }
}

#[test]
fn a_header_must_be_a_json_object_of_tensors() {
    assert_eq!(problem(file(b"{\"a\xff\":1}", 0)), P::HeaderUtf8 { position: 3 });
    let deep = "[".repeat(100_000);
    for header in [
        "",
        " ",
        "[]",
        "null",
        "1",
        "\"a\"",
        "{",
        "{}x",
        "{\"a\":1}",
        "{\"a\":{}}",
        "{\"a\":null}",
        deep.as_str(),
        "{\"__metadata__\":{\"a\":1}}",
        "{\"__metadata__\":{},\"__metadata__\":{}}",
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"shape":[1]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#,
        r#"{"a":{"dtype":4,"shape":[1],"data_offsets":[0,4]}}"#,
    ] {
        let found = problem(file(header, 4));
        assert!(matches!(found, P::HeaderJson { .. }), "{header}: {found:?}");
        assert!(found.to_string().len() < 600);
    }
}

/// One tensor per entry: name, dtype, shape, offsets.
fn header_of(entries: &[(&str, &str, &[u64], [u64; 2])]) -> String {
    let entry = |(name, dtype, shape, at): &(&str, &str, &[u64], [u64; 2])| {
        format!("{}:{}", json!(name), json!({ "dtype": dtype, "shape": shape, "data_offsets": at }))
    };
    format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn each_lie_has_its_own_error() {
    let t = || "a".to_owned();
    let max = u64::MAX;
    let one = |dtype, shape, at| header_of(&[("a", dtype, shape, at)]);
    let two = |at_a, at_b| header_of(&[("a", "F32", &[1], at_a), ("b", "F32", &[1], at_b)]);
    let overlap = P::Overlap { a: t(), b: "b".into() };
    #[rustfmt::skip]
    let cases = [
        (one("F32", &[1], [0, 4]), 3, P::OutOfBounds { tensor: t(), end: 4, data: 3 }),
        (one("F32", &[1], [max - 3, max]), 4, P::OutOfBounds { tensor: t(), end: max, data: 4 }),
        (one("F32", &[1], [4, 0]), 4, P::ReversedOffsets { tensor: t(), start: 4, end: 0 }),
        (one("F32", &[1], [max, 0]), 4, P::ReversedOffsets { tensor: t(), start: max, end: 0 }),
        (one("F32", &[2], [0, 4]), 4, P::SizeMismatch { tensor: t(), expected: 8, found: 4 }),
        (one("F4", &[3], [0, 1]), 1, P::SizeMismatch { tensor: t(), expected: 2, found: 1 }),
        (one("F32", &[1 << 32, 1 << 32], [0, 4]), 4, P::ShapeOverflow { tensor: t() }),
        (one("F32", &[max, max, max], [0, 4]), 4, P::ShapeOverflow { tensor: t() }),
        (one("F64", &[1 << 60], [0, 0]), 0, P::ShapeOverflow { tensor: t() }),
        (one("F31", &[1], [0, 4]), 4, P::UnknownDtype { tensor: t(), dtype: "F31".into() }),
        (one("f32", &[1], [0, 4]), 4, P::UnknownDtype { tensor: t(), dtype: "f32".into() }),
        (one("F32", &[1], [4, 8]), 8, P::Gap { tensor: t(), bytes: 4 }),
        (one("F32", &[1], [0, 4]), 5, P::TrailingBytes { bytes: 1 }),
        ("{}".into(), 1, P::TrailingBytes { bytes: 1 }),
        (one("F32", &[1], [2, 6]), 6, P::Misaligned { tensor: t(), start: 2, alignment: 4 }),
        (two([0, 4], [0, 4]), 4, overlap.clone()),
        (two([0, 4], [8, 12]), 12, P::Gap { tensor: "b".into(), bytes: 4 }),
        (header_of(&[("a", "F32", &[3], [0, 12]), ("b", "F32", &[1], [4, 8])]), 12, overlap.clone()),
        (header_of(&[("a", "F32", &[2], [0, 8]), ("b", "F32", &[0], [4, 4])]), 8, overlap),
        (header_of(&[("x", "F16", &[1], [0, 2]), ("a", "F32", &[1], [2, 6])]), 6,
         P::Misaligned { tensor: t(), start: 2, alignment: 4 }),
        (header_of(&[("a", "F32", &[1], [0, 4]), ("a", "F32", &[1], [4, 8])]), 8, P::DuplicateTensor { tensor: t() }),
        (header_of(&[("a", "F32", &[1], [0, 4]), ("a", "F32", &[1], [0, 4])]), 4, P::DuplicateTensor { tensor: t() }),
    ];
    for (header, data, expected) in cases {
        assert_eq!(problem(file(&header, data)), expected, "{header}");
    }
}

#[test]
fn messages() {
    let message = |bytes| load(bytes).map(drop).unwrap_err().to_string();
    assert_eq!(
        message((1u64 << 63).to_le_bytes().to_vec()),
        "model.safetensors: the header claims 9223372036854775808 bytes, at most 100000000 are read"
    );
    assert_eq!(
        message(file("", 0)),
        "model.safetensors: the header is not a safetensors header: EOF while parsing a value at line 1 column 0"
    );
    assert_eq!(
        message(file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 0)),
        "model.safetensors: the header is not a safetensors header: tensor `w`: invalid length 1, expected an array of \
         length 2 at line 1 column 50"
    );
    assert_eq!(
        message(file(header_of(&[("w", "F32", &[3], [0, 8])]), 8)),
        "model.safetensors: tensor `w` has 8 bytes, its shape and dtype ask for 12"
    );
}

#[test]
fn a_name_cannot_drive_the_terminal() {
    let name = format!("\u{1b}[2J\u{202e}{}", "x".repeat(10_000));
    let text = load(file(header_of(&[(&name, "F32", &[2], [0, 4])]), 4)).unwrap_err().to_string();
    assert!(text.len() < 400 && !text.contains(['\u{1b}', '\u{202e}']), "{text}");
    assert!(text.contains("\\u{1b}[2J\\u{202e}xxx"), "{text}");
}

/// Reading the header alone must judge as reading everything does.
fn same_by_header_alone(bytes: &[u8]) {
    let dir = TestDir::new();
    dir.write("model.safetensors", bytes);
    let bare = |e: Error| e.to_string().replace(&format!("{}/", dir.display()), "");
    let alone = Weights::open_headers(&dir).map(|h| h.tensors).map_err(bare);
    let mapped = Weights::open(&dir).map(|w| w.headers().tensors.clone()).map_err(bare);
    let in_memory = load(bytes.to_vec()).map(|w| w.headers().tensors.clone()).map_err(|e| e.to_string());
    assert_eq!(alone, in_memory);
    assert_eq!(mapped, in_memory);
}

/// A valid file to damage: sizes from 0, all dtypes.
fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let tensor = (prop::sample::select(ElementType::ALL), prop::collection::vec(0usize..5, 0..4));
    prop::collection::vec(tensor, 0..6).prop_map(|tensors| {
        let tensors: Vec<_> = tensors
            .into_iter()
            .enumerate()
            .map(|(i, (element, shape))| {
                let elements: usize = shape.iter().product();
                let bytes = vec![i as u8; (elements as u64 * element.bits()).div_ceil(8) as usize];
                (format!("tensor.{i}"), element, shape, bytes)
            })
            .collect();
        let parts: Vec<_> = tensors.iter().map(|(n, e, s, b)| (n.as_str(), *e, &s[..], &b[..])).collect();
        serialize(&parts)
    })
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![0u64, 1, 4, 8, 16, 1 << 31, 1 << 32, 1 << 63, u64::MAX - 7, u64::MAX]),
        0u64..64,
    ]
    .prop_map(|n| json!(n))
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => number(),
        1 => prop::collection::vec(number(), 0..4).prop_map(Value::Array),
        1 => prop::sample::select(ElementType::ALL).prop_map(|e| json!(e.name())),
        1 => ".{0,4}".prop_map(|s| json!(s)),
        1 => Just(Value::Null),
    ]
}

/// Replaces the `at`-th leaf below `value`, counting in document order.
fn replace_leaf(value: &mut Value, at: &mut usize, new: &Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|v| replace_leaf(v, at, new)),
        Value::Array(list) if *at > 0 => list.iter_mut().for_each(|v| replace_leaf(v, at, new)),
        leaf if *at == 0 => *leaf = new.clone(),
        _ => {}
    }
    *at = at.wrapping_sub(1);
}

/// Either a typed error, or tensors that all lie within the file and can be read.
fn load_and_read_all(bytes: Vec<u8>) {
    match load(bytes) {
        Err(e) => assert_eq!(e.code(), "weights-invalid", "{e}"),
        Ok(w) => {
            for t in &w.headers().tensors {
                assert_eq!(w.get_raw(&t.name).unwrap().1.len() as u64, t.stored_bytes());
                if let Ok(tensor) = w.get(&t.name) {
                    assert_eq!(tensor.to_vec_f32().len(), t.elements());
                    let _ = tensor.check_finite();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_is_written_is_read_back(bytes in any_file()) {
        let w = load(bytes).unwrap();
        for t in &w.headers().tensors {
            let (_, data) = w.get_raw(&t.name).unwrap();
            let number: u8 = t.name.rsplit('.').next().unwrap().parse().unwrap();
            prop_assert!(data.iter().all(|&b| b == number));
        }
    }

    #[test]
    fn damaged_bytes_never_panic(
        mut bytes in any_file(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        load_and_read_all(bytes);
    }

    #[test]
    fn damaged_headers_never_panic(
        bytes in any_file(),
        changes in prop::collection::vec((0usize..40, any_value()), 1..4),
        data in 0usize..64,
    ) {
        let (json, _) = super::super::header::split(&bytes).unwrap();
        let mut header: Value = serde_json::from_slice(json).unwrap();
        for (mut at, value) in changes {
            replace_leaf(&mut header, &mut at, &value);
        }
        load_and_read_all(file(header.to_string(), data));
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load_and_read_all(bytes.clone());
        load_and_read_all(file(bytes, 3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn headers_alone_are_judged_alike(mut bytes in any_file(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        same_by_header_alone(&bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        same_by_header_alone(&bytes);
        same_by_header_alone(&bytes[..at]);
    }
}
