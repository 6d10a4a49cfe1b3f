//! From a checkpoint to memory: every weight of a description, checked, converted and (for a GPU) uploaded in pieces.

use half::{bf16, f16};
use taipan_gpu::{Gpu, give_way};
use taipan_kernels::{Piece, WeightFormat, row_stride};

use crate::description::{MatrixRecipe, Recipes};
use crate::error::{Error, Result};
use crate::memory::zeros;
use crate::run::cpu::{self, vector_data};
use crate::run::dense::PackedMatrix;
use crate::run::gpu;
use crate::weights::{Dtype, Tensor, Weights};

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
}

/// Called with the bytes of weights loaded so far and in all.
pub type Progress = Box<dyn Fn(u64, u64) + Send + Sync>;

/// Rows are converted and uploaded in pieces of about this many elements.
const STAGE: usize = 1 << 20;

/// Reads matrices row by row from the tensors they are made of.
struct Source<'a> {
    tensors: Vec<Tensor<'a>>,
    recipe: &'a MatrixRecipe,
    format: WeightFormat,
}

impl<'a> Source<'a> {
    fn open(weights: &'a Weights, recipe: &'a MatrixRecipe, dtype: WeightDtype) -> Result<Self> {
        let tensors = recipe.tensors.iter().map(|name| weights.get(name)).collect::<Result<Vec<_>>>()?;
        let format = match dtype {
            WeightDtype::Auto => stored_format(&tensors),
            WeightDtype::F32 => WeightFormat::F32,
            WeightDtype::F16 => WeightFormat::F16,
            WeightDtype::Bf16 => WeightFormat::Bf16,
        };
        Ok(Self { tensors, recipe, format })
    }

    fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let (tensor, at) = if self.recipe.interleave {
            match &self.tensors[..] {
                [halves] => {
                    let block = self.recipe.rows / self.recipe.blocks;
                    let (first, row) = (row / block * block, row % block);
                    (halves, first + row % 2 * (block / 2) + row / 2)
                }
                tensors => (&tensors[row % 2], row / 2),
            }
        } else {
            let mut at = row;
            let holds = |t: &&Tensor<'_>| {
                let rows = t.info.elements() / self.recipe.cols;
                let here = at < rows;
                at -= if here { 0 } else { rows };
                here
            };
            (self.tensors.iter().find(holds).expect("a recipe's rows are those of its tensors"), at)
        };
        let start = at * self.recipe.cols;
        tensor.read_f32(start, out);
        // Here and not over whole tensors in front, so that a large one is read once and loading can be given up soon.
        if out.iter().fold(false, |any, x| any | !x.is_finite()) {
            tensor.check_finite()?;
        }
        self.round(tensor, start, out)
    }

    /// Rounds to the storage format, so that every device computes with the same weights.
    fn round(&self, tensor: &Tensor<'_>, start: usize, row: &mut [f32]) -> Result<()> {
        let (dtype, overflow) = match (self.format, tensor.dtype) {
            (WeightFormat::F16, Dtype::F32 | Dtype::BF16) => ("f16", round_row(row, |x| f16::from_f32(x).to_f32())),
            (WeightFormat::Bf16, Dtype::F32 | Dtype::F16) => ("bf16", round_row(row, |x| bf16::from_f32(x).to_f32())),
            _ => return Ok(()),
        };
        let Some((i, value)) = overflow else { return Ok(()) };
        let (name, file) = (tensor.info.name.clone(), tensor.info.file.to_string());
        Err(Error::Overflow { name, file, dtype, index: start + i, value })
    }
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

/// The format that holds all tensors of a matrix exactly.
fn stored_format(tensors: &[Tensor<'_>]) -> WeightFormat {
    let all = |dtype| tensors.iter().all(|t| t.dtype == dtype);
    if all(Dtype::F16) {
        WeightFormat::F16
    } else if all(Dtype::BF16) {
        WeightFormat::Bf16
    } else {
        WeightFormat::F32
    }
}

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

fn read_vector(weights: &Weights, name: &str) -> Result<Vec<f32>> {
    let tensor = weights.get(name)?;
    tensor.check_finite()?;
    Ok(tensor.to_vec_f32())
}

/// Loads all weights for the CPU device.
pub(crate) async fn load_cpu(
    weights: &Weights,
    recipes: &Recipes,
    dtype: WeightDtype,
    progress: Option<&Progress>,
) -> Result<cpu::Weights> {
    let mut meter = Meter::new(recipes, progress);
    let mut matrices = Vec::with_capacity(recipes.matrices.len());
    for recipe in &recipes.matrices {
        let source = Source::open(weights, recipe, dtype)?;
        let name = || recipe.tensors.join(" + ");
        let mut data = PackedMatrix::reserve(recipe.rows, recipe.cols, source.format, name)?;
        let batch = (STAGE / recipe.cols).clamp(1, recipe.rows);
        let mut rows = zeros(batch * recipe.cols, name)?;
        for first in (0..recipe.rows).step_by(batch) {
            let count = batch.min(recipe.rows - first);
            for (i, out) in rows.chunks_exact_mut(recipe.cols).take(count).enumerate() {
                source.row(first + i, out)?;
            }
            data.set_rows(first, &rows[..count * recipe.cols]);
            meter.add(count * recipe.cols).await;
        }
        matrices.push(data);
    }
    let vectors = recipes.vectors.iter().map(|parts| vector_data(parts, |name| read_vector(weights, name)));
    Ok(cpu::Weights { matrices, vectors: vectors.collect::<Result<_>>()? })
}

/// Loads all weights to a GPU.
pub(crate) async fn load_gpu(
    device: &Gpu,
    weights: &Weights,
    recipes: &Recipes,
    dtype: WeightDtype,
    progress: Option<&Progress>,
) -> Result<gpu::Weights> {
    let mut meter = Meter::new(recipes, progress);
    let mut matrices = Vec::with_capacity(recipes.matrices.len());
    for recipe in &recipes.matrices {
        let source = Source::open(weights, recipe, dtype)?;
        let row_bytes = row_stride(recipe.cols) * source.format.bytes();
        let stored = split(recipe, source.format, device.max_binding())?;
        let mut pieces = Vec::with_capacity(stored.len());
        for piece in stored {
            pieces.push((piece, upload(device, &source, piece, row_bytes, &mut meter).await?));
        }
        matrices.push(gpu::MatrixBuffers { format: source.format, pieces });
    }
    let mut vectors = Vec::with_capacity(recipes.vectors.len());
    for parts in &recipes.vectors {
        vectors.push(gpu::upload_vector(device, &vector_data(parts, |name| read_vector(weights, name))?));
    }
    device.check()?;
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
    let row_bytes = row_stride(recipe.cols) * format.bytes();
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

async fn upload(
    device: &Gpu,
    source: &Source<'_>,
    piece: Piece,
    row_bytes: usize,
    meter: &mut Meter<'_>,
) -> Result<taipan_gpu::Buffer> {
    let buffer = device.buffer("weight matrix", piece.rows as u64 * row_bytes as u64);
    let (cols, stride) = (source.recipe.cols, row_stride(source.recipe.cols));
    let batch = (STAGE / stride).max(1);
    let mut rows = vec![0.0; batch * stride];
    for first in (0..piece.rows as usize).step_by(batch) {
        let count = batch.min(piece.rows as usize - first);
        for (i, out) in rows.chunks_exact_mut(stride).take(count).enumerate() {
            source.row(piece.first_row as usize + first + i, &mut out[..cols])?;
        }
        gpu::write_rows(device, &buffer, (first * row_bytes) as u64, &rows[..count * stride], source.format);
        device.check()?;
        meter.add(count * cols).await;
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(rows: usize, cols: usize) -> MatrixRecipe {
        MatrixRecipe { tensors: vec!["w".to_owned()], interleave: false, blocks: 1, rows, cols }
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
