//! Any bytes as a weight file: a typed error, or tensors that can all be read.
//!
//! The first byte chooses how the rest is used, so that the fuzzer need not find the eight bytes of a length that fits.

use taipan::weights::Weights;

/// Takes any bytes; returns whether they were a checkpoint.
///
/// # Panics
/// If they are neither refused properly nor usable.
pub fn check(input: &[u8]) -> bool {
    let Some((&mode, rest)) = input.split_first() else { return false };
    let files = match mode % 3 {
        0 => vec![("model.safetensors", rest.to_vec())],
        1 => vec![("model.safetensors", with_length(rest))],
        _ => {
            let (index, shard) = rest.split_at(rest.len() / 2);
            vec![("model.safetensors.index.json", index.to_vec()), ("a.safetensors", with_length(shard))]
        }
    };
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
    match Weights::from_bytes(files) {
        Ok(weights) => {
            for info in &weights.headers().tensors {
                let raw = weights.get_raw(&info.name).unwrap().1.len();
                let mut scales = 0;
                if let Ok(tensor) = weights.get(&info.name) {
                    scales = tensor.scales.len();
                    assert_eq!(tensor.to_vec_f32().len(), info.elements());
                    let _ = tensor.check_finite();
                }
                assert_eq!((raw + scales) as u64, info.stored_bytes());
            }
            true
        }
        Err(error) => {
            assert_eq!(error.code(), "weights-invalid");
            assert!(error.hint().is_some());
            assert!(error.to_string().len() < 2000);
            false
        }
    }
}

/// A file whose header is what stands before the first NUL, and whose data is the rest.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let header = bytes.split(|&b| b == 0).next().unwrap_or_default();
    let data = bytes.get(header.len() + 1..).unwrap_or_default();
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}
