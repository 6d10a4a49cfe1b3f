//! How numbers are stored in a GGUF file, and how they become ours: floats stay where they are, Q8_0 and Q4_0 are our groups of
//! 32 with the same scales and integers, blocks of 256 with scales of scales become f16.

use half::f16;
use taipan_kernels::GROUP;

use super::super::{Dtype, ElementType};
use crate::quant::Quant;

/// A type of ggml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Float(Dtype),
    Q8_0,
    Q4_0,
    Q4K,
    Q6K,
}

/// Elements of a block with scales of scales.
const SUPER: usize = 256;

/// What ggml calls its types, as far as files with them are about.
pub(super) fn name(kind: u32) -> &'static str {
    const NAMES: [&str; 41] = [
        "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
        "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32",
        "I64", "F64", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "", "", "", "MXFP4", "NVFP4",
    ];
    NAMES.get(kind as usize).copied().filter(|name| !name.is_empty()).unwrap_or("unknown")
}

impl Block {
    pub(super) const ALLOWED: &'static str = "allowed: F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K";

    pub(super) fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::Float(Dtype::F32),
            1 => Self::Float(Dtype::F16),
            2 => Self::Q4_0,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            14 => Self::Q6K,
            30 => Self::Float(Dtype::BF16),
            _ => return None,
        })
    }

    /// Elements of a block, and its bytes.
    pub(super) fn sizes(self) -> (usize, usize) {
        match self {
            Self::Float(dtype) => (1, ElementType::from(dtype).bits() as usize / 8),
            Self::Q8_0 => (GROUP, 2 + GROUP),
            Self::Q4_0 => (GROUP, 2 + GROUP / 2),
            Self::Q4K => (SUPER, 2 + 2 + 12 + SUPER / 2),
            Self::Q6K => (SUPER, SUPER / 2 + SUPER / 4 + SUPER / 16 + 2),
        }
    }

    /// How a file calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Float(dtype) => dtype.name(),
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// What its numbers become.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Float(dtype) => dtype,
            Self::Q8_0 => Dtype::Q8,
            Self::Q4_0 => Dtype::Q4,
            Self::Q4K | Self::Q6K => Dtype::F16,
        }
    }
}

/// Numbers in one of our types, row by row: elements or integers, and the scales of integers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plain {
    pub(super) dtype: Dtype,
    pub(super) bytes: Vec<u8>,
    pub(super) scales: Vec<u8>,
}

impl Plain {
    /// From the blocks of a tensor.
    pub(super) fn of(block: Block, stored: &[u8]) -> Self {
        let (mut bytes, mut scales) = (Vec::new(), Vec::new());
        match block {
            Block::Float(_) => bytes.extend_from_slice(stored),
            Block::Q8_0 => stored.as_chunks::<{ 2 + GROUP }>().0.iter().for_each(|group| {
                scales.extend_from_slice(&group[..2]);
                bytes.extend_from_slice(&group[2..]);
            }),
            Block::Q4_0 => stored.as_chunks::<{ 2 + GROUP / 2 }>().0.iter().for_each(|group| {
                scales.extend_from_slice(&group[..2]);
                bytes.extend(reorder(&group[2..]));
            }),
            Block::Q4K => stored.as_chunks::<144>().0.iter().for_each(|block| narrow(&q4_k(block), &mut bytes)),
            Block::Q6K => stored.as_chunks::<210>().0.iter().for_each(|block| narrow(&q6_k(block), &mut bytes)),
        }
        Self { dtype: block.dtype(), bytes, scales }
    }

    /// Bytes and scale bytes of a row of so many columns.
    fn row(&self, cols: usize) -> (usize, usize) {
        match self.quant() {
            None => (cols * ElementType::from(self.dtype).bits() as usize / 8, 0),
            Some(quant) => (cols / GROUP * quant.group_bytes(), cols / GROUP * 2),
        }
    }

    pub(super) fn quant(&self) -> Option<Quant> {
        Quant::of(self.dtype.format())
    }

    /// The rows in another order: `from` tells where a row comes from.
    pub(super) fn rows(&self, rows: usize, cols: usize, from: impl Fn(usize) -> usize) -> Self {
        let (bytes, scales) = self.row(cols);
        let pick = |data: &[u8], size: usize| {
            (0..rows).flat_map(|row| &data[from(row) * size..][..size]).copied().collect::<Vec<u8>>()
        };
        Self { dtype: self.dtype, bytes: pick(&self.bytes, bytes), scales: pick(&self.scales, scales) }
    }

    /// The same numbers as f32, for a matrix whose parts are stored in types of their own.
    pub(super) fn widened(self) -> Self {
        let floats = |size: usize, f: &dyn Fn(&[u8]) -> f32| self.bytes.chunks_exact(size).map(f).collect::<Vec<f32>>();
        let numbers = match (self.dtype, self.quant()) {
            (_, Some(quant)) => {
                let groups = self.bytes.chunks_exact(quant.group_bytes()).zip(self.scales.chunks_exact(2));
                groups.flat_map(|(g, scale)| quant.integers(g).map(|q| f32::from(q) * half(scale))).collect()
            }
            (Dtype::F16, _) => floats(2, &half),
            (Dtype::BF16, _) => floats(2, &|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            _ => return self,
        };
        let bytes = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        Self { dtype: Dtype::F32, bytes, scales: Vec::new() }
    }

    /// Two matrices of the same type one upon the other, in each of `blocks` pairs of them.
    pub(super) fn stacked(&self, other: &Self, blocks: usize) -> Self {
        let pair = |a: &[u8], b: &[u8]| {
            let (a_size, b_size) = (a.len() / blocks, b.len() / blocks);
            let both = (0..blocks).flat_map(|i| [&a[i * a_size..][..a_size], &b[i * b_size..][..b_size]]);
            both.flatten().copied().collect::<Vec<u8>>()
        };
        Self { dtype: self.dtype, bytes: pair(&self.bytes, &other.bytes), scales: pair(&self.scales, &other.scales) }
    }
}

/// From elements j and j + 16 in a byte to consecutive ones.
fn reorder(bytes: &[u8]) -> [u8; GROUP / 2] {
    let integer = |i: usize| if i < GROUP / 2 { bytes[i] & 15 } else { bytes[i - GROUP / 2] >> 4 };
    std::array::from_fn(|i| integer(2 * i) | integer(2 * i + 1) << 4)
}

fn narrow(numbers: &[f32; SUPER], out: &mut Vec<u8>) {
    out.extend(numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Eight groups of 32 four-bit integers, each with a six-bit scale and a six-bit minimum.
fn q4_k(block: &[u8; 144]) -> [f32; SUPER] {
    let (d, least, packed, integers) = (half(block), half(&block[2..]), &block[4..16], &block[16..]);
    let group = |i: usize| {
        let (scale, min) = if i < 4 {
            (packed[i] & 63, packed[i + 4] & 63)
        } else {
            let (low, high, other) = (packed[i + 4], packed[i - 4], packed[i]);
            (low & 15 | high >> 6 << 4, low >> 4 | other >> 6 << 4)
        };
        (d * f32::from(scale), least * f32::from(min))
    };
    std::array::from_fn(|at| {
        let (i, j) = (at / 32, at % 32);
        let (scale, min) = group(i);
        let byte = integers[i / 2 * 32 + j];
        let integer = if i % 2 == 0 { byte & 15 } else { byte >> 4 };
        scale * f32::from(integer) - min
    })
}

/// Sixteen groups of 16 six-bit integers, each with an eight-bit scale.
fn q6_k(block: &[u8; 210]) -> [f32; SUPER] {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(&block[208..]));
    std::array::from_fn(|at| {
        // Halves of 128; in each four quarters of 32, which share their bytes.
        let (part, quarter, j) = (at / 128, at % 128 / 32, at % 32);
        let byte = low[64 * part + 32 * (quarter % 2) + j];
        let four = if quarter < 2 { byte & 15 } else { byte >> 4 };
        let two = high[32 * part + j] >> (2 * quarter) & 3;
        let integer = i16::from(four | two << 4) - 32;
        let scale = scales[8 * part + 2 * quarter + j / 16] as i8;
        d * f32::from(scale) * f32::from(integer)
    })
}
