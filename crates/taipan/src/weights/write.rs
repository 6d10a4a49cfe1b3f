//! A small writer of safetensors files.

use serde_json::{Map, Value, json};

use super::ElementType;

/// A tensor to be written: name, element type, shape, bytes (little endian, row-major).
pub type TensorData<'a> = (&'a str, ElementType, &'a [usize], &'a [u8]);

/// The file with these tensors. Larger element types come first, so that each tensor is aligned.
///
/// # Panics
/// If a tensor's bytes do not fit its shape, or two have one name.
pub fn serialize(tensors: &[TensorData<'_>]) -> Vec<u8> {
    let mut sorted = tensors.to_vec();
    sorted.sort_by_key(|t| std::cmp::Reverse(t.1.bits()));
    for (name, element, shape, bytes) in &sorted {
        let expected = stored_bytes(*element, shape);
        assert_eq!(bytes.len() as u64, expected, "bytes of tensor `{name}`");
    }
    let layout: Vec<_> = sorted.iter().map(|&(n, e, s, _)| (n, e, s)).collect();
    let mut out = header(&layout);
    for (_, _, _, bytes) in sorted {
        out.extend_from_slice(bytes);
    }
    out
}

/// Only what comes before the data, for files too large to build in memory: the data of the tensors must follow in the
/// order given here.
///
/// # Panics
/// If a larger element type follows a smaller one (its data would be misaligned), a size overflows, or two tensors have
/// one name.
pub fn header(tensors: &[(&str, ElementType, &[usize])]) -> Vec<u8> {
    header_with(tensors, &[])
}

/// As [`header`], with metadata.
pub(crate) fn header_with(tensors: &[(&str, ElementType, &[usize])], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect());
    }
    let (mut at, mut previous) = (0u64, u64::MAX);
    for &(name, element, shape) in tensors {
        assert!(element.bits() <= previous, "tensor `{name}` must come before smaller elements");
        previous = element.bits();
        let end = at + stored_bytes(element, shape);
        let entry = json!({ "dtype": element.name(), "shape": shape, "data_offsets": [at, end] });
        assert!(entries.insert(name.to_owned(), entry).is_none(), "tensor `{name}` is given twice");
        at = end;
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    // The format pads the header with spaces so that the data starts at a multiple of 8.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.append(&mut json);
    out
}

/// Bytes of a tensor.
pub(crate) fn stored_bytes(element: ElementType, shape: &[usize]) -> u64 {
    let bits = shape.iter().try_fold(element.bits(), |n, &dim| n.checked_mul(dim as u64));
    bits.expect("the size of a tensor in memory fits u64").div_ceil(8)
}
