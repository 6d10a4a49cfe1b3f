//! `pytorch_model.bin`: an uncompressed zip archive of a pickle and of one file for each storage.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rawzip::{CompressionMethod, ZipArchive};

use super::header::{MAX_HEADER, first_duplicate, shorten};
use super::pickle::{self, View};
use super::{TensorInfo, WeightsProblem as Problem};

/// The tensors of an archive; several may lie at the same place.
pub(super) fn parse(bytes: &[u8], file: &Arc<str>, file_index: usize) -> Result<Vec<TensorInfo>, Problem> {
    let entries = entries(bytes)?;
    let pickles: Vec<&str> = entries.keys().filter_map(|name| name.strip_suffix("data.pkl")).collect();
    let [root] = pickles[..] else {
        return Err(archive(format!("{} files in it are called data.pkl, expected one", pickles.len())));
    };
    if entries.get(&format!("{root}byteorder")).is_some_and(|place| bytes[place.clone()] != *b"little") {
        return Err(archive("its numbers are not little-endian".to_owned()));
    }
    let place = entries[&format!("{root}data.pkl")].clone();
    if place.len() as u64 > MAX_HEADER {
        return Err(Problem::HeaderTooLong { len: place.len() as u64, max: MAX_HEADER });
    }
    let views = pickle::tensors(&bytes[place])?;
    if let Some(tensor) = first_duplicate(views.iter().map(|(name, _)| name.as_str())) {
        return Err(Problem::DuplicateTensor { tensor });
    }
    let mut tensors = Vec::with_capacity(views.len());
    for (name, view) in views {
        let storage = entries.get(&format!("{root}data/{}", view.key));
        let Some(storage) = storage else {
            return Err(Problem::StorageMissing { tensor: name, storage: view.key.to_string() });
        };
        let range = range(&name, &view, storage)?;
        let shape = view.shape.iter().map(|n| *n as usize).collect(); // its bytes fit the file
        let file = file.clone();
        tensors.push(TensorInfo {
            name,
            element: view.element,
            shape,
            file,
            file_index,
            range,
            quantised: None,
            origin: None,
        });
    }
    Ok(tensors)
}

fn archive(message: String) -> Problem {
    Problem::Archive { message }
}

/// Where each file of the archive lies.
fn entries(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, Problem> {
    let fail = |e: rawzip::Error| archive(shorten(e.to_string()));
    let zip = ZipArchive::from_slice(bytes).map_err(fail)?;
    let mut found = HashMap::new();
    let mut entries = zip.entries();
    while let Some(entry) = entries.next_entry().map_err(fail)? {
        let path = entry.file_path();
        let Ok(name) = std::str::from_utf8(path.as_ref()) else {
            return Err(archive("the name of a file in it is not UTF-8".to_owned()));
        };
        if entry.compression_method() != CompressionMethod::STORE || entry.flags().is_encrypted() {
            return Err(archive(format!("{} in it is compressed or encrypted", shorten(name.to_owned()))));
        }
        let (start, end) = zip.get_entry(entry.wayfinder()).map_err(fail)?.compressed_data_range();
        let within = start <= end && end <= bytes.len() as u64;
        if !within || found.insert(name.to_owned(), start as usize..end as usize).is_some() {
            return Err(archive(format!("{} in it is cut off or there twice", shorten(name.to_owned()))));
        }
    }
    Ok(found)
}

/// The bytes of a tensor, which must lie in one piece, row by row.
fn range(name: &str, view: &View, storage: &Range<usize>) -> Result<Range<u64>, Problem> {
    let tensor = || name.to_owned();
    let mut elements = 1u64;
    let mut in_order = true;
    for (n, stride) in view.shape.iter().zip(&view.strides).rev() {
        // The stride of a dimension of one says nothing.
        in_order &= *n <= 1 || *stride == elements;
        elements = elements.checked_mul(*n).ok_or_else(|| Problem::ShapeOverflow { tensor: tensor() })?;
    }
    if !in_order {
        return Err(Problem::NotContiguous { tensor: tensor() });
    }
    let size = view.element.bits() / 8;
    let end = view.offset.checked_add(elements).and_then(|end| end.checked_mul(size));
    let end = end.ok_or_else(|| Problem::ShapeOverflow { tensor: tensor() })?;
    let data = storage.len() as u64;
    // A dimension beyond the file is possible only beside one of zero.
    if end > data || view.shape.iter().any(|n| *n > data && elements == 0) {
        return Err(Problem::OutOfBounds { tensor: tensor(), end, data });
    }
    let start = storage.start as u64;
    Ok(start + view.offset * size..start + end)
}
