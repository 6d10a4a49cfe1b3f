//! Weight matrices in a GPU's memory; `shaders/README.md` has the layout of each format.

use half::{bf16, f16};
use taipan_gpu::{Buffer, Gpu};
use taipan_kernels::{Piece, WeightFormat, row_stride};

use crate::quant::{Quant, QuantRows};

/// A matrix on the device: consecutive rows, each piece within the binding limit. A clone is the same matrix.
#[derive(Clone, Debug)]
pub struct MatrixBuffers {
    /// How elements are stored.
    pub format: WeightFormat,
    /// The pieces.
    pub pieces: Vec<(Piece, Buffer)>,
}

impl MatrixBuffers {
    /// Uploads a dense matrix, cut into pieces of `most` rows. It is quantised if the format is one of integers; others must
    /// hold its numbers exactly.
    #[must_use]
    pub fn upload(gpu: &Gpu, data: &[f32], cols: usize, format: WeightFormat, most: usize) -> Self {
        let stride = row_stride(cols);
        let mut pieces = Vec::new();
        for (i, rows) in data.chunks(most * cols).enumerate() {
            let count = rows.len() / cols;
            let piece = Piece { first_row: (i * most) as u32, rows: count as u32 };
            let buffer = Self::piece(gpu, piece, cols, format);
            if let Some(quant) = Quant::of(format) {
                write_quantised(gpu, &buffer, piece, 0, &QuantRows::of(quant, rows, cols));
                pieces.push((piece, buffer));
                continue;
            }
            let mut padded = vec![0.0; count * stride];
            for (to, from) in padded.chunks_exact_mut(stride).zip(rows.chunks_exact(cols)) {
                to[..cols].copy_from_slice(from);
            }
            write_rows(gpu, &buffer, 0, &padded, format);
            pieces.push((piece, buffer));
        }
        Self { format, pieces }
    }

    /// Memory for a piece.
    pub(crate) fn piece(gpu: &Gpu, piece: Piece, cols: usize, format: WeightFormat) -> Buffer {
        gpu.buffer("weight matrix", (piece.rows as usize * format.row_bytes(cols)) as u64)
    }
}

/// Writes padded rows in a storage format that holds them exactly.
pub(crate) fn write_rows(gpu: &Gpu, buffer: &Buffer, offset: u64, rows: &[f32], format: WeightFormat) {
    match format {
        WeightFormat::F32 => gpu.write(buffer, offset, rows),
        WeightFormat::F16 => {
            let packed: Vec<u16> = rows.iter().map(|x| f16::from_f32(*x).to_bits()).collect();
            gpu.write(buffer, offset, &packed);
        }
        WeightFormat::Bf16 => {
            let packed: Vec<u16> = rows.iter().map(|x| bf16::from_f32(*x).to_bits()).collect();
            gpu.write(buffer, offset, &packed);
        }
        WeightFormat::Q8 | WeightFormat::Q4 => unreachable!("{} is written by write_quantised", format.name()),
    }
    gpu.flush();
}

/// Writes rows of a piece from its row `first` on, which is even: integers of all rows come first, then scales of all rows.
pub(crate) fn write_quantised(gpu: &Gpu, buffer: &Buffer, piece: Piece, first: usize, rows: &QuantRows) {
    let (groups, bytes) = (rows.groups(), rows.quant().group_bytes());
    gpu.write(buffer, (first * groups * bytes) as u64, rows.integers());
    // Words are written as a whole; a last half one is followed by nothing.
    let mut scales = rows.scales().to_vec();
    scales.resize(scales.len().next_multiple_of(2), 0);
    gpu.write(buffer, (piece.rows as usize * groups * bytes + 2 * first * groups) as u64, &scales);
    gpu.flush();
}
