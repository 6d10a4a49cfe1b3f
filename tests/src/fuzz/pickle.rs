//! Any bytes as a PyTorch checkpoint: a typed error, or tensors that can all be read.
//!
//! The first byte chooses whether the rest is the archive or the pickle in one, so that the fuzzer need not find checksums.

use taipan::weights::Weights;

use crate::archive::checkpoint;

/// Takes any bytes; returns whether they were a checkpoint.
///
/// # Panics
/// If they are neither refused properly nor usable.
pub fn check(input: &[u8]) -> bool {
    let Some((&mode, rest)) = input.split_first() else { return false };
    let bytes = if mode % 4 == 0 { rest.to_vec() } else { checkpoint(rest, &[("0", &[0; 64]), ("1", &[])]) };
    match Weights::from_bytes(vec![("pytorch_model.bin".to_owned(), bytes.into())]) {
        Ok(weights) => {
            for info in &weights.headers().tensors {
                assert_eq!(weights.get_raw(&info.name).unwrap().1.len() as u64, info.stored_bytes());
                if let Ok(tensor) = weights.get(&info.name) {
                    assert_eq!(tensor.to_vec_f32().len(), info.elements());
                }
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
