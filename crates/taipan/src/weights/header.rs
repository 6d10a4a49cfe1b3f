//! The header of a safetensors file: `u64 length · JSON · data`, where the JSON lists each tensor's dtype, shape and
//! byte range in the data.
//!
//! Nothing in a file is believed before it is compared with the file's real length, and no length from a file sizes an
//! allocation. The ranges must cover the data exactly: an overlap or a hole would let two readers see two models.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{ElementType, TensorInfo, WeightsProblem as Problem, quantised};

/// The format's own ceiling. A header of a thousand layers has less than a hundredth of it.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Length of the field in front of the header.
pub(super) const PREFIX: u64 = 8;

/// Checks the length field against the file's size, and gives the length of the JSON.
pub(super) fn json_len(prefix: [u8; 8], file_len: u64) -> Result<usize, Problem> {
    let len = u64::from_le_bytes(prefix);
    if len > MAX_HEADER {
        return Err(Problem::HeaderTooLong { len, max: MAX_HEADER });
    }
    let needed = PREFIX + len;
    if file_len < needed {
        return Err(Problem::HeaderTruncated { needed, found: file_len });
    }
    Ok(len as usize) // at most MAX_HEADER
}

/// Splits a whole file in memory into header JSON and the length of its data.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], u64), Problem> {
    let file_len = bytes.len() as u64;
    let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Problem::HeaderTruncated { needed: PREFIX, found: file_len });
    };
    let len = json_len(*prefix, file_len)?;
    Ok((&rest[..len], (rest.len() - len) as u64))
}

/// Parses and checks the header of a file with `data_len` bytes of data. The tensors come back in file order.
pub(super) fn parse(
    json: &[u8],
    data_len: u64,
    file: &Arc<str>,
    file_index: usize,
) -> Result<Vec<TensorInfo>, Problem> {
    let text = std::str::from_utf8(json).map_err(|e| Problem::HeaderUtf8 { position: e.valid_up_to() })?;
    let RawHeader { tensors: raw, metadata } =
        serde_json::from_str(text).map_err(|e| Problem::HeaderJson { message: shorten(e.to_string()) })?;
    if let Some(tensor) = first_duplicate(raw.iter().map(|(name, _)| name.as_str())) {
        return Err(Problem::DuplicateTensor { tensor });
    }
    let data_start = PREFIX + json.len() as u64;
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, entry) in raw {
        let (element, shape) = check_entry(&name, &entry, data_len)?;
        let [start, end] = entry.data_offsets;
        let range = data_start + start..data_start + end; // both are within the file by now
        tensors.push(TensorInfo {
            name,
            element,
            shape,
            file: file.clone(),
            file_index,
            range,
            quantised: None,
            origin: None,
        });
    }
    by_place(&mut tensors);
    check_cover(&tensors, data_start, data_len)?;
    quantised::join(tensors, &metadata)
}

/// Sorts tensors as they lie in their file.
pub(super) fn by_place(tensors: &mut [TensorInfo]) {
    tensors.sort_by_key(|t| (t.range.start, t.range.end));
}

/// What can be said of a tensor without looking at the others.
fn check_entry(name: &str, entry: &RawTensor, data_len: u64) -> Result<(ElementType, Vec<usize>), Problem> {
    let tensor = || name.to_owned();
    let element = ElementType::from_name(&entry.dtype)
        .ok_or_else(|| Problem::UnknownDtype { tensor: tensor(), dtype: shorten(entry.dtype.clone()) })?;
    let [start, end] = entry.data_offsets;
    if start > end {
        return Err(Problem::ReversedOffsets { tensor: tensor(), start, end });
    }
    if end > data_len {
        return Err(Problem::OutOfBounds { tensor: tensor(), end, data: data_len });
    }
    let overflow = || Problem::ShapeOverflow { tensor: tensor() };
    let bits = entry.shape.iter().try_fold(element.bits(), |n, &dim| n.checked_mul(dim));
    let expected = bits.ok_or_else(overflow)?.div_ceil(8);
    if expected != end - start {
        return Err(Problem::SizeMismatch { tensor: tensor(), expected, found: end - start });
    }
    let alignment = element.alignment();
    if !start.is_multiple_of(alignment) {
        return Err(Problem::Misaligned { tensor: tensor(), start, alignment });
    }
    // A zero in the shape hides factors that a 32-bit `usize` cannot hold.
    let shape = entry.shape.iter().map(|&dim| usize::try_from(dim)).collect::<Result<_, _>>();
    Ok((element, shape.map_err(|_| overflow())?))
}

/// Sorted tensors must follow each other from the first byte of the data to the last.
fn check_cover(tensors: &[TensorInfo], data_start: u64, data_len: u64) -> Result<(), Problem> {
    let mut at = data_start;
    let mut previous: Option<&TensorInfo> = None;
    for t in tensors {
        if let Some(p) = previous.filter(|_| t.range.start < at) {
            return Err(Problem::Overlap { a: p.name.clone(), b: t.name.clone() });
        }
        if t.range.start > at {
            return Err(Problem::Gap { tensor: t.name.clone(), bytes: t.range.start - at });
        }
        at = t.range.end;
        previous = Some(t);
    }
    match data_start + data_len - at {
        0 => Ok(()),
        bytes => Err(Problem::TrailingBytes { bytes }),
    }
}

pub(super) fn first_duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = HashSet::new();
    let mut names = names;
    names.find(|name| !seen.insert(*name)).map(str::to_owned)
}

/// Parser messages quote the input, which may be huge.
pub(super) fn shorten(mut message: String) -> String {
    const MAX: usize = 300;
    if message.len() > MAX {
        message.truncate(message.floor_char_boundary(MAX));
        message.push('…');
    }
    message
}

/// A tensor's entry as written, nothing checked but the JSON types.
#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's entries in order, repeated names kept: a map would silently drop all but one.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawHeader, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that lists tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut entries = Vec::new();
                let (mut metadata, mut metadata_seen) = (Vec::new(), false);
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if std::mem::replace(&mut metadata_seen, true) {
                            return Err(A::Error::duplicate_field("__metadata__"));
                        }
                        metadata = map.next_value::<Option<Pairs<String>>>()?.map_or(Vec::new(), |pairs| pairs.0);
                        continue;
                    }
                    let entry = map
                        .next_value::<RawTensor>()
                        .map_err(|e| A::Error::custom(format_args!("tensor `{name}`: {e}")))?;
                    entries.push((name, entry));
                }
                Ok(RawHeader { tensors: entries, metadata })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// An object's entries in order, repeated keys kept.
pub(super) struct Pairs<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<V>, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
