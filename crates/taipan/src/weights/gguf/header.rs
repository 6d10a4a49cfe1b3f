//! The beginning of a GGUF file: `"GGUF" · version · counts · metadata · tensors`, little endian, then data from a multiple of
//! the alignment on.
//!
//! As with the other formats nothing is believed before it is compared with the file's real length, and no count from a
//! file sizes an allocation.

use std::collections::HashMap;
use std::ops::Range;

use super::super::WeightsProblem as Problem;
use super::super::header::{MAX_HEADER, first_duplicate, shorten};
use super::blocks::Block;

/// Bytes that every such file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Where `general.alignment` says nothing.
const ALIGNMENT: u64 = 32;
const MAX_DIMS: u32 = 4;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    Texts(Vec<&'a str>),
    /// Numbers of a type, as they lie in the file: a list of bytes takes no more memory than it has there.
    Numbers(u32, &'a [u8]),
}

impl<'a> Value<'a> {
    /// How many values a list has.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Texts(texts) => Some(texts.len()),
            Self::Numbers(kind, bytes) => Some(bytes.len() / size_of_number(*kind)?),
            _ => None,
        }
    }

    /// The numbers of a list of them.
    pub(super) fn numbers(&self) -> Option<impl Iterator<Item = Value<'a>> + use<'a>> {
        let Self::Numbers(kind, bytes) = *self else { return None };
        let number = move |bytes: &'a [u8]| Reader { bytes, at: 0, of: bytes.len() as u64 }.number(kind);
        Some(bytes.chunks_exact(size_of_number(kind)?).filter_map(move |bytes| number(bytes).ok().flatten()))
    }
}

/// Bytes of a number of a type, if it is one of numbers.
fn size_of_number(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// A tensor as the file describes it.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    /// Dimensions, outermost first: the file has them the other way round.
    pub(super) shape: Vec<usize>,
    pub(super) block: Block,
    /// Bytes of the file.
    pub(super) range: Range<u64>,
}

/// What the beginning of a file says.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) metadata: HashMap<&'a str, Value<'a>>,
    pub(super) tensors: Vec<Entry<'a>>,
}

pub(super) fn problem(message: impl Into<String>) -> Problem {
    Problem::Gguf { message: shorten(message.into()) }
}

/// Reads and checks what the first bytes of a file of this length say. Where they end too early the error says how many it
/// needs at least.
pub(super) fn parse(bytes: &[u8], file_len: u64) -> Result<Header<'_>, Problem> {
    let mut r = Reader { bytes, at: 0, of: file_len };
    if r.take(4)? != MAGIC {
        return Err(problem("it does not begin with \"GGUF\""));
    }
    let version = r.u32()?;
    if version == 3u32.swap_bytes() || version == 2u32.swap_bytes() {
        return Err(problem("its numbers are big-endian; expected a little-endian file"));
    }
    if !(2..=3).contains(&version) {
        return Err(problem(format!("its version is {version}; expected 2 or 3")));
    }
    let (tensor_count, pair_count) = (r.u64()?, r.u64()?);
    let mut metadata = HashMap::new();
    for _ in 0..pair_count {
        let key = r.text()?;
        let kind = r.u32()?;
        let value = r.value(kind, key)?;
        if metadata.insert(key, value).is_some() {
            return Err(problem(format!("the key {key} is there twice")));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::Integer(n)) if (8..=1 << 20).contains(n) && n.count_ones() == 1 => *n as u64,
        Some(_) => return Err(problem("general.alignment is not a power of two from 8 on")),
    };
    let mut raw = Vec::new();
    for _ in 0..tensor_count {
        raw.push(r.tensor()?);
    }
    if let Some(tensor) = first_duplicate(raw.iter().map(|t| t.name)) {
        return Err(Problem::DuplicateTensor { tensor });
    }
    let start = (r.at as u64).next_multiple_of(alignment);
    let mut tensors = raw.into_iter().map(|t| t.place(start, alignment, file_len)).collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by_key(|t| (t.range.start, t.range.end));
    if let Some([a, b]) = tensors.array_windows().find(|[a, b]| b.range.start < a.range.end) {
        return Err(Problem::Overlap { a: a.name.to_owned(), b: b.name.to_owned() });
    }
    Ok(Header { metadata, tensors })
}

struct Raw<'a> {
    name: &'a str,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl<'a> Raw<'a> {
    fn place(self, start: u64, alignment: u64, file_len: u64) -> Result<Entry<'a>, Problem> {
        let tensor = || self.name.to_owned();
        let Some(block) = Block::of(self.kind) else {
            return Err(Problem::UnknownDtype {
                tensor: tensor(),
                dtype: format!("{} ({} of ggml); {}", super::blocks::name(self.kind), self.kind, Block::ALLOWED),
            });
        };
        let overflow = || Problem::ShapeOverflow { tensor: tensor() };
        let elements = self.dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).ok_or_else(overflow)?;
        let (size, bytes) = block.sizes();
        // A row is whole blocks.
        let row = self.dims.first().copied().unwrap_or(1);
        if !row.is_multiple_of(size as u64) {
            return Err(problem(format!(
                "tensor {} has rows of {row}, which are not whole blocks of {size}",
                self.name
            )));
        }
        let len = (elements / size as u64).checked_mul(bytes as u64).ok_or_else(overflow)?;
        if !self.offset.is_multiple_of(alignment) {
            return Err(Problem::Misaligned { tensor: tensor(), start: self.offset, alignment });
        }
        let from = start.checked_add(self.offset).ok_or_else(overflow)?;
        let end = from.checked_add(len).ok_or_else(overflow)?;
        if end > file_len {
            return Err(Problem::OutOfBounds { tensor: tensor(), end, data: file_len });
        }
        // A zero hides factors that a 32-bit `usize` cannot hold.
        let shape = self.dims.iter().rev().map(|d| usize::try_from(*d)).collect::<Result<_, _>>();
        Ok(Entry { name: self.name, shape: shape.map_err(|_| overflow())?, block, range: from..end })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Length of the file, of which `bytes` may be the beginning.
    of: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], Problem> {
        let end = (self.at as u64).saturating_add(len);
        if end > MAX_HEADER && end <= self.of {
            return Err(problem(format!("its header has more than {MAX_HEADER} bytes")));
        }
        let left = &self.bytes[self.at..];
        let part = usize::try_from(len).ok().and_then(|len| left.get(..len));
        let part = part.ok_or(Problem::HeaderTruncated { needed: end, found: self.bytes.len() as u64 })?;
        self.at += part.len();
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        Ok(self.take(N as u64)?.try_into().expect("as many as were taken"))
    }

    fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, Problem> {
        let len = self.u64()?;
        let at = self.at;
        let invalid = |e: std::str::Utf8Error| problem(format!("a text is not UTF-8 at byte {}", at + e.valid_up_to()));
        std::str::from_utf8(self.take(len)?).map_err(invalid)
    }

    /// A number or a truth, of one of their types.
    fn number(&mut self, kind: u32) -> Result<Option<Value<'a>>, Problem> {
        Ok(Some(match kind {
            0 => Value::Integer(self.array::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Ok(None),
        }))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value<'a>, Problem> {
        if let Some(number) = self.number(kind)? {
            return Ok(number);
        }
        match kind {
            8 => self.text().map(Value::Text),
            9 => self.list(key),
            _ => Err(problem(format!("{key} is a value of type {kind}; this build knows 0 to 12"))),
        }
    }

    fn list(&mut self, key: &str) -> Result<Value<'a>, Problem> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if let Some(size) = size_of_number(kind) {
            let bytes = self.take(count.saturating_mul(size as u64))?;
            return Ok(Value::Numbers(kind, bytes));
        }
        match kind {
            8 => {
                // A text takes eight bytes at least, so this ends with the file.
                let mut texts = Vec::new();
                for _ in 0..count {
                    texts.push(self.text()?);
                }
                Ok(Value::Texts(texts))
            }
            9 => Err(problem(format!("{key} is a list of lists; no key of a model has one"))),
            _ => Err(problem(format!("{key} is a list of type {kind}; this build knows 0 to 12"))),
        }
    }

    fn tensor(&mut self) -> Result<Raw<'a>, Problem> {
        let name = self.text()?;
        let count = self.u32()?;
        if count > MAX_DIMS {
            return Err(problem(format!("tensor {name} has {count} dimensions; expected at most {MAX_DIMS}")));
        }
        let dims = (0..count).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        Ok(Raw { name, dims, kind: self.u32()?, offset: self.u64()? })
    }
}
