//! Tests of this module; see the files below for what each is about.

mod checkpoint;
mod headers;
mod numbers;
mod quantised;
mod sharded;

use std::borrow::Cow;

use super::*;

/// A file with this header text and this many zero bytes of data.
fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn load(bytes: Vec<u8>) -> Result<Weights> {
    Weights::from_bytes(vec![("model.safetensors".to_owned(), Cow::Owned(bytes))])
}

/// The problem that makes the bytes no weight file.
fn problem(bytes: Vec<u8>) -> WeightsProblem {
    match load(bytes) {
        Err(Error::Weights { file, problem }) => {
            assert_eq!(file, "model.safetensors");
            assert!(problem.hint().is_some());
            *problem
        }
        other => panic!("{other:?}"),
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
