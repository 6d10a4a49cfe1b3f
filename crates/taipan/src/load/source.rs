//! Rows of a matrix from the tensors it is made of, checked and rounded to a storage format.

use half::{bf16, f16};
use taipan_kernels::WeightFormat;

use super::WeightDtype;
use crate::description::MatrixRecipe;
use crate::error::{Error, Result};
use crate::quant::{Quant, QuantRows, RowMut};
use crate::weights::{Dtype, Headers, Tensor, Weights};

/// Reads matrices row by row from the tensors they are made of.
pub(crate) struct Source<'a> {
    tensors: Vec<Tensor<'a>>,
    pub(crate) recipe: &'a MatrixRecipe,
    pub(crate) format: WeightFormat,
}

impl<'a> Source<'a> {
    /// Opens the tensors of a matrix.
    pub(crate) fn open(weights: &'a Weights, recipe: &'a MatrixRecipe, dtype: WeightDtype) -> Result<Self> {
        let tensors = recipe.tensors.iter().map(|name| weights.get(name)).collect::<Result<Vec<_>>>()?;
        let format = dtype.format().unwrap_or_else(|| common(tensors.iter().map(|t| t.dtype)));
        Ok(Self { tensors, recipe, format })
    }

    /// The tensor that a row of the matrix comes from, and which of its rows it is.
    fn place(&self, row: usize) -> (&Tensor<'a>, usize) {
        let row = row + self.recipe.skip;
        if self.recipe.interleave {
            return match &self.tensors[..] {
                [halves] => {
                    let block = self.recipe.rows / self.recipe.blocks;
                    let (first, row) = (row / block * block, row % block);
                    let half = (row % 2) ^ usize::from(self.recipe.lower_first);
                    (halves, first + half * (block / 2) + row / 2)
                }
                tensors => (&tensors[row % 2], row / 2),
            };
        }
        let mut at = row;
        let holds = |t: &&Tensor<'_>| {
            let rows = t.info.rows(self.recipe.cols);
            let here = at < rows;
            at -= if here { 0 } else { rows };
            here
        };
        (self.tensors.iter().find(holds).expect("a recipe's rows are those of its tensors"), at)
    }

    /// Reads a row as the storage format holds it, which is one of floats.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let (tensor, at) = self.place(row);
        read(tensor, at, out)?;
        self.round(tensor, at * self.recipe.cols, out)
    }

    /// Quantises rows, or takes them over where they are stored in this very format.
    pub(crate) fn quantised(&self, quant: Quant, first: usize, count: usize) -> Result<QuantRows> {
        let cols = self.recipe.cols;
        let mut rows = QuantRows::zeros(quant, count, cols);
        rows.fill(|row, out| {
            let (tensor, at) = self.place(first + row);
            if tensor.dtype.format() == quant.format() {
                return take_over(tensor, at, out);
            }
            let mut dense = vec![0.0; cols];
            read(tensor, at, &mut dense)?;
            out.quantise(&dense).map_err(|i| overflow(tensor, quant.name(), at * cols + i, dense[i]))
        })?;
        Ok(rows)
    }

    /// Rounds to the storage format, so that every device computes with the same weights.
    fn round(&self, tensor: &Tensor<'_>, start: usize, row: &mut [f32]) -> Result<()> {
        if tensor.dtype.format() == self.format {
            return Ok(());
        }
        let too_large = match self.format {
            WeightFormat::F16 => round_row(row, |x| f16::from_f32(x).to_f32()),
            WeightFormat::Bf16 => round_row(row, |x| bf16::from_f32(x).to_f32()),
            _ => None,
        };
        let Some((i, value)) = too_large else { return Ok(()) };
        Err(overflow(tensor, self.format.name(), start + i, value))
    }
}

/// Reads a row of a tensor; every number is finite.
fn read(tensor: &Tensor<'_>, row: usize, out: &mut [f32]) -> Result<()> {
    tensor.read_f32(row * tensor.info.stride(out.len()), out);
    // Here and not over whole tensors in front, so that a large one is read once and loading can be given up soon.
    if out.iter().fold(false, |any, x| any | !x.is_finite()) {
        tensor.check_finite()?;
    }
    Ok(())
}

/// Takes a stored row over as it is.
fn take_over(tensor: &Tensor<'_>, row: usize, out: &mut RowMut<'_>) -> Result<()> {
    let (bytes, groups) = out.sizes();
    let scales = &tensor.scales.as_chunks::<2>().0[row * groups..(row + 1) * groups];
    let scales = scales.iter().map(|scale| f16::from_le_bytes(*scale));
    if !scales.clone().all(f16::is_finite) {
        tensor.check_finite()?;
    }
    out.copy(&tensor.bytes[row * bytes..(row + 1) * bytes], scales);
    Ok(())
}

fn overflow(tensor: &Tensor<'_>, dtype: &'static str, index: usize, value: f32) -> Error {
    let (name, file) = (tensor.info.name.clone(), tensor.info.file.to_string());
    Error::Overflow { name, file, dtype, index, value }
}

/// Rounds finite numbers; stops at one that becomes infinite, and tells its place and value.
fn round_row(row: &mut [f32], round: impl Fn(f32) -> f32) -> Option<(usize, f32)> {
    for (i, x) in row.iter_mut().enumerate() {
        let rounded = round(*x);
        if rounded.is_infinite() {
            return Some((i, *x));
        }
        *x = rounded;
    }
    None
}

/// The format in which a matrix is stored on a device.
pub(crate) fn format_of(headers: &Headers, recipe: &MatrixRecipe, dtype: WeightDtype) -> Result<WeightFormat> {
    let stored = recipe.tensors.iter().map(|name| headers.get(name)?.dtype()).collect::<Result<Vec<_>>>()?;
    Ok(dtype.format().unwrap_or_else(|| common(stored.into_iter())))
}

/// The format that holds all tensors of a matrix exactly.
fn common(stored: impl Iterator<Item = Dtype>) -> WeightFormat {
    let mut formats = stored.map(Dtype::format);
    let first = formats.next().unwrap_or(WeightFormat::F32);
    if formats.all(|format| format == first) { first } else { WeightFormat::F32 }
}
