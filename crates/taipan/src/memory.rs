//! Main memory that may not be there.

#[cfg(target_os = "linux")]
mod pages;

use crate::error::{Error, Result};

/// Room for so many elements. A model chooses how many, so this must not abort the process where there are fewer.
pub(crate) fn reserve<T>(len: usize, what: impl FnOnce() -> String) -> Result<Vec<T>> {
    let mut out = Vec::new();
    if out.try_reserve_exact(len).is_err() {
        return Err(Error::out_of_memory(what(), len.saturating_mul(size_of::<T>())));
    }
    Ok(out)
}

/// As [`reserve`], for weights.
pub(crate) fn reserve_weights<T>(len: usize, what: impl FnOnce() -> String) -> Result<Vec<T>> {
    let out = reserve(len, what)?;
    #[cfg(target_os = "linux")]
    pages::ask(&out);
    Ok(out)
}

/// So many zeros.
pub(crate) fn zeros<T: Default + Clone>(len: usize, what: impl FnOnce() -> String) -> Result<Vec<T>> {
    let mut out = reserve(len, what)?;
    out.resize(len, T::default());
    Ok(out)
}

/// A copy.
pub(crate) fn copy<T: Copy>(from: &[T], what: impl FnOnce() -> String) -> Result<Vec<T>> {
    let mut out = reserve(from.len(), what)?;
    out.extend_from_slice(from);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        for len in [usize::MAX, isize::MAX as usize / 4] {
            match zeros::<f32>(len, || "the window".to_owned()).unwrap_err() {
                Error::OutOfMemory { what, bytes: Some(bytes) } => {
                    assert_eq!((what.as_str(), bytes), ("the window", len.saturating_mul(4) as u64));
                }
                error => panic!("{error}"),
            }
        }
        assert_eq!(zeros::<u32>(3, String::new).unwrap(), [0; 3]);
        assert_eq!(copy(&[1, 2], String::new).unwrap(), [1, 2]);
    }
}
