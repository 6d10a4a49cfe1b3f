//! From a checkpoint to memory: every weight of a description, checked, converted and (for a GPU) uploaded in pieces.

mod batch;
mod source;

use std::collections::HashMap;

use taipan_gpu::{Gpu, give_way};
use taipan_kernels::{Piece, WeightFormat, row_stride};

use crate::description::{MatrixRecipe, Part, Recipes};
use crate::error::{Error, Result};
use crate::memory::zeros;
use crate::quant::Quant;
use crate::run::cpu::{self, VectorData, vector_data};
use crate::run::dense::PackedMatrix;
use crate::run::gpu;
use crate::weights::{Fetched, WeightSource};
use batch::Batch;
pub(crate) use source::Source;
pub(crate) use source::format_of;

/// How matrices are stored on the device. Vectors, states and everything per head are f32 whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightDtype {
    /// As the checkpoint stores them.
    #[default]
    Auto,
    /// f32.
    F32,
    /// f16; a value that f16 cannot hold is an error.
    F16,
    /// bf16; a value that bf16 cannot hold is an error.
    Bf16,
    /// int8 with a scale for every 32 columns, see [`crate::quant`].
    Q8,
    /// int4 with a scale for every 32 columns.
    Q4,
}

impl WeightDtype {
    /// The format that is asked for, if it is.
    #[must_use]
    pub fn format(self) -> Option<WeightFormat> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(WeightFormat::F32),
            Self::F16 => Some(WeightFormat::F16),
            Self::Bf16 => Some(WeightFormat::Bf16),
            Self::Q8 => Some(WeightFormat::Q8),
            Self::Q4 => Some(WeightFormat::Q4),
        }
    }
}

/// Called with the bytes of weights loaded so far and in all.
pub type Progress = Box<dyn Fn(u64, u64) + Send + Sync>;

/// Rows are converted and uploaded in pieces of about this many elements.
const STAGE: usize = 1 << 20;

struct Meter<'a> {
    progress: Option<&'a Progress>,
    done: u64,
    total: u64,
}

impl<'a> Meter<'a> {
    fn new(recipes: &Recipes, progress: Option<&'a Progress>) -> Self {
        let total = recipes.matrices.iter().map(|m| (m.rows * m.cols) as u64).sum();
        Self { progress, done: 0, total }
    }

    /// Reports progress, and lets the caller give up here.
    async fn add(&mut self, elements: usize) {
        self.done += elements as u64;
        if let Some(progress) = self.progress {
            progress(self.done, self.total);
        }
        give_way().await;
    }
}

/// A vector from the parts it is made of.
async fn read_vector<S: WeightSource>(weights: &S, parts: &[Part]) -> Result<VectorData> {
    let mut read = HashMap::new();
    for part in parts {
        let names = match part {
            Part::Tensor(name) | Part::Scaled(name, _) | Part::Slice(name, ..) | Part::Halves(name) => vec![name],
            Part::InTurn(a, b) => vec![a, b],
            Part::Zeros(_) | Part::Words(_) => Vec::new(),
        };
        for name in names {
            let fetched = Fetched::whole(weights, name).await?;
            let tensor = fetched.tensor()?;
            tensor.check_finite()?;
            read.insert(name.as_str(), tensor.to_vec_f32());
        }
    }
    vector_data(parts, |name| Ok(read.get(name).cloned().expect("every tensor among the parts was read")))
}

/// Loads all weights for the CPU device.
pub(crate) async fn load_cpu<S: WeightSource>(
    weights: &S,
    recipes: &Recipes,
    dtype: WeightDtype,
    progress: Option<&Progress>,
) -> Result<cpu::Weights> {
    let mut meter = Meter::new(recipes, progress);
    let mut matrices = Vec::with_capacity(recipes.matrices.len());
    for recipe in &recipes.matrices {
        let format = format_of(weights.headers(), recipe, dtype)?;
        let name = || recipe.tensors.join(" + ");
        let mut data = PackedMatrix::reserve(recipe.rows, recipe.cols, format, name)?;
        let batch = (STAGE / recipe.cols).clamp(1, recipe.rows);
        let quant = Quant::of(format);
        let mut rows = zeros(if quant.is_some() { 0 } else { batch * recipe.cols }, name)?;
        for first in (0..recipe.rows).step_by(batch) {
            let count = batch.min(recipe.rows - first);
            let held = Batch::bring(weights, recipe, first..first + count).await?;
            let source = held.open(as_format(format))?;
            if let Some(quant) = quant {
                let rows = source.quantised(quant, held.first, count).map_err(|e| held.in_whole(e))?;
                data.set_quantised(first, &rows);
            } else {
                for (i, out) in rows.chunks_exact_mut(recipe.cols).take(count).enumerate() {
                    source.row(held.first + i, out).map_err(|e| held.in_whole(e))?;
                }
                data.set_rows(first, &rows[..count * recipe.cols]);
            }
            meter.add(count * recipe.cols).await;
        }
        matrices.push(data);
    }
    let mut vectors = Vec::with_capacity(recipes.vectors.len());
    for parts in &recipes.vectors {
        vectors.push(read_vector(weights, parts).await?);
    }
    Ok(cpu::Weights { matrices, vectors })
}

/// Loads all weights to a GPU.
pub(crate) async fn load_gpu<S: WeightSource>(
    device: &Gpu,
    weights: &S,
    recipes: &Recipes,
    dtype: WeightDtype,
    progress: Option<&Progress>,
) -> Result<gpu::Weights> {
    let mut meter = Meter::new(recipes, progress);
    let mut matrices = Vec::with_capacity(recipes.matrices.len());
    for recipe in &recipes.matrices {
        let format = format_of(weights.headers(), recipe, dtype)?;
        let stored = split(recipe, format, device.max_binding())?;
        let mut pieces = Vec::with_capacity(stored.len());
        for piece in stored {
            pieces.push((piece, upload(device, weights, recipe, format, piece, &mut meter).await?));
        }
        matrices.push(gpu::MatrixBuffers { format, pieces });
    }
    let mut vectors = Vec::with_capacity(recipes.vectors.len());
    for parts in &recipes.vectors {
        vectors.push(gpu::upload_vector(device, &read_vector(weights, parts).await?));
    }
    // A browser reports late: what it has to say about uploads must not be blamed on what comes next.
    device.settle().await?;
    Ok(gpu::Weights { matrices, vectors })
}

/// The pieces in which a device stores a matrix of this format.
///
/// # Errors
/// `LimitTooSmall` if two rows do not fit a binding.
pub fn matrix_pieces(device: &Gpu, recipe: &MatrixRecipe, format: WeightFormat) -> Result<Vec<Piece>> {
    split(recipe, format, device.max_binding())
}

/// A product over many tokens takes one row of workgroups for 64 rows of its matrix, and no device promises more than
/// 65 535 workgroups in a row.
const MOST_ROWS: u64 = 65_535 * 64;

/// Cuts a matrix into pieces of whole pairs of rows (a pair is one output of an interleaved matrix) within the limits of
/// a binding, given in bytes, and of a dispatch.
pub(crate) fn split(recipe: &MatrixRecipe, format: WeightFormat, limit: u64) -> Result<Vec<Piece>> {
    let row_bytes = format.row_bytes(recipe.cols);
    let most = (limit / row_bytes as u64).min(MOST_ROWS) as usize / 2 * 2;
    if most == 0 {
        return Err(Error::LimitTooSmall {
            limit: "maxStorageBufferBindingSize".to_owned(),
            needed: 2 * row_bytes as u64,
            available: limit,
            what: format!("two rows of {}", recipe.tensors.join(" + ")),
        });
    }
    let starts = (0..recipe.rows).step_by(most);
    Ok(starts.map(|r| Piece { first_row: r as u32, rows: most.min(recipe.rows - r) as u32 }).collect())
}

/// The wish for this very format.
fn as_format(format: WeightFormat) -> WeightDtype {
    match format {
        WeightFormat::F32 => WeightDtype::F32,
        WeightFormat::F16 => WeightDtype::F16,
        WeightFormat::Bf16 => WeightDtype::Bf16,
        WeightFormat::Q8 => WeightDtype::Q8,
        WeightFormat::Q4 => WeightDtype::Q4,
    }
}

async fn upload<S: WeightSource>(
    device: &Gpu,
    weights: &S,
    recipe: &MatrixRecipe,
    format: WeightFormat,
    piece: Piece,
    meter: &mut Meter<'_>,
) -> Result<taipan_gpu::Buffer> {
    let (cols, stride) = (recipe.cols, row_stride(recipe.cols));
    let buffer = gpu::MatrixBuffers::piece(device, piece, cols, format);
    // Pairs of rows: scales of a single one may end inside a word.
    let batch = (STAGE / stride).next_multiple_of(2).max(2);
    let quant = Quant::of(format);
    let mut rows = vec![0.0; if quant.is_some() { 0 } else { batch * stride }];
    for first in (0..piece.rows as usize).step_by(batch) {
        let count = batch.min(piece.rows as usize - first);
        let start = piece.first_row as usize + first;
        let held = Batch::bring(weights, recipe, start..start + count).await?;
        let source = held.open(as_format(format))?;
        if let Some(quant) = quant {
            let rows = source.quantised(quant, held.first, count).map_err(|e| held.in_whole(e))?;
            gpu::write_quantised(device, &buffer, piece, first, &rows);
        } else {
            for (i, out) in rows.chunks_exact_mut(stride).take(count).enumerate() {
                source.row(held.first + i, &mut out[..cols]).map_err(|e| held.in_whole(e))?;
            }
            let offset = (first * format.row_bytes(cols)) as u64;
            gpu::write_rows(device, &buffer, offset, &rows[..count * stride], format);
        }
        device.check()?;
        meter.add(count * cols).await;
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Weights;

    fn recipe(rows: usize, cols: usize) -> MatrixRecipe {
        MatrixRecipe::stacked(&["w".to_owned()], rows, cols)
    }

    fn rows(rows: usize, cols: usize, format: WeightFormat, limit: u64) -> Vec<(u32, u32)> {
        let pieces = split(&recipe(rows, cols), format, limit).unwrap();
        pieces.iter().map(|p| (p.first_row, p.rows)).collect()
    }

    #[test]
    fn pieces_fit_a_binding() {
        assert_eq!(rows(10, 8, WeightFormat::F32, 320), [(0, 10)]);
        assert_eq!(rows(10, 8, WeightFormat::F32, 319), [(0, 8), (8, 2)]);
        assert_eq!(rows(10, 8, WeightFormat::F16, 160), [(0, 10)]);
        assert!(matches!(split(&recipe(10, 8), WeightFormat::F32, 63), Err(Error::LimitTooSmall { needed: 64, .. })));
    }

    #[test]
    fn a_weight_that_16_bits_cannot_hold_is_an_error() {
        // The largest f32 rounds to infinity in bf16 too; what is just below half a step rounds down.
        let largest_bf16 = f32::from_bits(0x7f7f_0000);
        let cases = [
            (WeightDtype::Bf16, "bf16", f32::MAX, f32::from_bits(0x7f7f_7fff), largest_bf16),
            (WeightDtype::F16, "f16", 65_520.0, 65_519.0, 65_504.0),
        ];
        for (dtype, name, bad, good, rounded) in cases {
            let mut values = [1.0f32, -2.0, 3.0, 4.0];
            let read = |values: [f32; 4]| {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                let file = crate::weights::serialize(&[("w", crate::ElementType::F32, &[2, 2], &bytes)]);
                let weights = Weights::from_bytes(vec![("a.safetensors".to_owned(), file.into())])?;
                let mut row = [0.0; 2];
                Source::open(&weights, &recipe(2, 2), dtype)?.row(1, &mut row)?;
                Ok(row)
            };
            values[3] = -bad;
            match read(values) {
                Err(Error::Overflow { name: tensor, file, dtype, index, value }) => {
                    assert_eq!((tensor.as_str(), file.as_str(), dtype, index), ("w", "a.safetensors", name, 3));
                    assert_eq!(value, -bad);
                }
                other => panic!("{other:?}"),
            }
            values[3] = -good;
            assert_eq!(read(values).unwrap(), [3.0, -rounded]);
        }
    }

    #[test]
    fn pieces_fit_a_dispatch() {
        // 65 535 tiles of 64 rows are what one dimension of a dispatch holds.
        let most = 65_535 * 64;
        assert_eq!(rows(most, 1, WeightFormat::F16, u64::MAX), [(0, most as u32)]);
        assert_eq!(rows(most + 1, 1, WeightFormat::F16, u64::MAX), [(0, most as u32), (most as u32, 1)]);
        for (_, rows) in rows(1 << 24, 1, WeightFormat::F16, u64::MAX) {
            assert!(taipan_kernels::Matmul::row_tiles(rows) <= 65_535);
        }
    }
}
