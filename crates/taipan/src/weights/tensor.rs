//! One tensor's numbers.

use std::ops::Range;
use std::sync::Arc;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use taipan_kernels::GROUP;

use super::{Dtype, ElementType};
use crate::error::{Error, Result};
use crate::quant::Quant;

/// What a header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the checkpoint.
    pub name: String,
    /// How its elements are stored.
    pub element: ElementType,
    /// Its dimensions as stored, outermost first; of a quantised matrix: rows, groups, bytes of a group's integers.
    pub shape: Vec<usize>,
    /// The file that holds it.
    pub file: Arc<str>,
    pub(super) file_index: usize,
    /// Where it lies, in bytes of its file.
    pub(super) range: Range<u64>,
    /// Of a quantised matrix, the format and where its scales lie.
    pub(super) quantised: Option<(Quant, Range<u64>)>,
    /// Of a tensor that is converted as it is read: the type that its file has it in, and bytes there.
    pub(super) origin: Option<(&'static str, u64)>,
}

impl TensorInfo {
    /// Number of elements; of a quantised matrix with the padding of its rows.
    pub fn elements(&self) -> usize {
        match &self.quantised {
            None => self.shape.iter().product(), // its bytes fit a file, so this fits as well
            Some(_) => self.shape[0] * self.shape[1] * GROUP,
        }
    }

    /// Number of bytes in the file, scales included.
    pub fn stored_bytes(&self) -> u64 {
        if let Some((_, bytes)) = self.origin {
            return bytes;
        }
        let scales = self.quantised.as_ref().map_or(0, |(_, scales)| scales.end - scales.start);
        self.range.end - self.range.start + scales
    }

    /// Its quantisation, if it has one.
    pub fn quantised_as(&self) -> Option<Quant> {
        self.quantised.as_ref().map(|(quant, _)| *quant)
    }

    /// Whether it is stored as integers with scales, of our formats or of another.
    pub fn is_quantised(&self) -> bool {
        self.quantised.is_some() || self.origin.is_some_and(|(name, _)| ElementType::from_name(name).is_none())
    }

    /// How it is stored: the name of its element, or of its quantisation.
    pub fn stored_as(&self) -> &'static str {
        match &self.quantised {
            _ if self.origin.is_some() => self.origin.map_or("", |(name, _)| name),
            None => self.element.name(),
            Some(_) => self.dtype().map_or(self.element.name(), Dtype::name),
        }
    }

    /// Whether it holds a tensor of this shape; a quantised one holds several matrices end to end.
    pub fn holds(&self, shape: &[usize]) -> bool {
        match (&self.quantised, shape) {
            (None, _) => self.shape == shape,
            (Some(_), [rows @ .., cols]) => self.shape[..2] == [rows.iter().product(), cols.div_ceil(GROUP)],
            (Some(_), []) => false,
        }
    }

    /// Rows of `cols` numbers.
    pub(crate) fn rows(&self, cols: usize) -> usize {
        if self.quantised.is_some() { self.shape[0] } else { self.elements() / cols }
    }

    /// Elements from one row of `cols` numbers to the next.
    pub(crate) fn stride(&self, cols: usize) -> usize {
        if self.quantised.is_some() { self.shape[1] * GROUP } else { cols }
    }

    /// Its weight type.
    ///
    /// # Errors
    /// `TensorDtype` if it is stored in a type that no weight has.
    pub fn dtype(&self) -> Result<Dtype> {
        let dtype = match &self.quantised {
            Some((Quant::Q8, _)) => Some(Dtype::Q8),
            Some((Quant::Q4, _)) => Some(Dtype::Q4),
            None => self.element.weight(),
        };
        dtype.ok_or_else(|| Error::TensorDtype {
            name: self.name.clone(),
            file: self.file.to_string(),
            found: self.element.name(),
            allowed: Dtype::ALLOWED,
        })
    }
}

/// A weight and its stored bytes.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// Name, shape and place.
    pub info: &'a TensorInfo,
    /// The stored type.
    pub dtype: Dtype,
    /// The elements, little endian, row-major; not aligned to anything.
    pub bytes: &'a [u8],
    /// The f16 scales of a quantised matrix, group by group.
    pub scales: &'a [u8],
}

/// Elements converted or checked at a time: small enough for the stack and the first-level cache.
const BLOCK: usize = 2048;

impl Tensor<'_> {
    /// Reads the elements `start .. start + out.len()` of the flat tensor as f32; rows of a quantised matrix are whole groups.
    ///
    /// # Panics
    /// If the tensor has fewer elements.
    pub fn read_f32(&self, start: usize, out: &mut [f32]) {
        let len = out.len();
        let bytes = |size: usize| &self.bytes[start * size..][..len * size];
        match self.dtype {
            Dtype::F32 => {
                for (out, b) in out.iter_mut().zip(bytes(4).as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*b);
                }
            }
            // The conversion of a whole block uses the processor's own instruction where it has one.
            Dtype::F16 => read_half(bytes(2), out, |block, out| {
                block.reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }),
            Dtype::BF16 => read_half(bytes(2), out, |block, out| {
                block.reinterpret_cast::<bf16>().convert_to_f32_slice(out);
            }),
            Dtype::Q8 => self.read_integers(Quant::Q8, start, out),
            Dtype::Q4 => self.read_integers(Quant::Q4, start, out),
        }
    }

    fn read_integers(&self, quant: Quant, start: usize, out: &mut [f32]) {
        let size = quant.group_bytes();
        let scales = self.scales.as_chunks::<2>().0;
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let (group, skip) = (at / GROUP, at % GROUP);
            let scale = f16::from_le_bytes(scales[group]).to_f32();
            let integers = quant.integers(&self.bytes[group * size..][..size]);
            let (now, later) = rest.split_at_mut(rest.len().min(GROUP - skip));
            now.iter_mut().zip(&integers[skip..]).for_each(|(x, q)| *x = f32::from(*q) * scale);
            at += now.len();
            rest = later;
        }
    }

    /// All elements as f32.
    pub fn to_vec_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.info.elements()];
        self.read_f32(0, &mut out);
        out
    }

    /// Checks that no element, and no scale, is NaN or infinite. Reads the stored bits only, at about the speed of memory.
    ///
    /// # Errors
    /// `NotFinite` with the first such element.
    pub fn check_finite(&self) -> Result<()> {
        // A float is not finite exactly if all bits of its exponent are set.
        let found = match self.dtype {
            Dtype::F32 => find_block(self.bytes, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
            Dtype::F16 => find_block(self.bytes, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
            Dtype::BF16 => find_block(self.bytes, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
            // Integers are finite; a scale makes the first of its group stand out.
            Dtype::Q8 | Dtype::Q4 => {
                find_block(self.scales, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00).map(|group| group * GROUP)
            }
        };
        let Some(index) = found else { return Ok(()) };
        let mut value = [0.0];
        match self.scales.as_chunks::<2>().0.get(index / GROUP) {
            Some(scale) => value = [f16::from_le_bytes(*scale).to_f32()],
            None => self.read_f32(index, &mut value),
        }
        Err(Error::NotFinite { name: self.info.name.clone(), file: self.info.file.to_string(), index, value: value[0] })
    }
}

/// Converts 16-bit elements block by block through an aligned copy.
fn read_half(bytes: &[u8], out: &mut [f32], convert: impl Fn(&[u16], &mut [f32])) {
    let mut block = [0u16; BLOCK];
    for (out, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK * 2)) {
        let block = &mut block[..out.len()];
        for (bits, b) in block.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *bits = u16::from_le_bytes(*b);
        }
        convert(block, out);
    }
}

/// Index of the first element that is `bad`. Within a block all elements are tested without a branch, which lets the
/// compiler use vector instructions; the exact position is looked for only in a block that has one.
fn find_block<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    let elements = bytes.as_chunks::<N>().0;
    let any = |block: &[[u8; N]]| block.iter().fold(false, |any, &b| any | bad(b));
    let block = elements.chunks(BLOCK).position(any)?;
    let first = block * BLOCK;
    elements[first..].iter().position(|&b| bad(b)).map(|i| first + i)
}
