//! From a checkpoint to memory: every weight of a description, checked, converted and (for a GPU) uploaded in pieces.

use half::{bf16, f16};
use taipan_gpu::Gpu;
use taipan_kernels::{Piece, WeightFormat, row_stride};

use crate::description::{MatrixRecipe, Recipes};
use crate::error::{Error, Result};
use crate::run::cpu::{self, vector_data};
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
    /// bf16.
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
        for tensor in &tensors {
            tensor.check_finite()?;
        }
        let format = match dtype {
            WeightDtype::Auto => stored_format(&tensors),
            WeightDtype::F32 => WeightFormat::F32,
            WeightDtype::F16 => WeightFormat::F16,
            WeightDtype::Bf16 => WeightFormat::Bf16,
        };
        Ok(Self { tensors, recipe, format })
    }

    fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let count = self.tensors.len();
        let (tensor, at) = if self.recipe.interleave {
            (&self.tensors[row % count], row / count)
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
        self.round(tensor, start, out)
    }

    /// Rounds to the storage format, so that every device computes with the same weights.
    fn round(&self, tensor: &Tensor<'_>, start: usize, row: &mut [f32]) -> Result<()> {
        match (self.format, tensor.dtype) {
            (WeightFormat::F16, Dtype::F32 | Dtype::BF16) => {
                for (i, x) in row.iter_mut().enumerate() {
                    let rounded = f16::from_f32(*x);
                    if rounded.is_infinite() {
                        let name = tensor.info.name.clone();
                        return Err(Error::F16Overflow { name, index: start + i, value: *x });
                    }
                    *x = rounded.to_f32();
                }
            }
            (WeightFormat::Bf16, Dtype::F32 | Dtype::F16) => {
                row.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
            }
            _ => {}
        }
        Ok(())
    }
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

    fn add(&mut self, elements: usize) {
        self.done += elements as u64;
        if let Some(progress) = self.progress {
            progress(self.done, self.total);
        }
    }
}

fn read_vector(weights: &Weights, name: &str) -> Result<Vec<f32>> {
    let tensor = weights.get(name)?;
    tensor.check_finite()?;
    Ok(tensor.to_vec_f32())
}

/// Loads all weights for the CPU device.
pub(crate) fn load_cpu(
    weights: &Weights,
    recipes: &Recipes,
    dtype: WeightDtype,
    progress: Option<&Progress>,
) -> Result<cpu::Weights> {
    let mut meter = Meter::new(recipes, progress);
    let mut matrices = Vec::with_capacity(recipes.matrices.len());
    for recipe in &recipes.matrices {
        let source = Source::open(weights, recipe, dtype)?;
        let mut data = vec![0.0; recipe.rows * recipe.cols];
        for (row, out) in data.chunks_exact_mut(recipe.cols).enumerate() {
            source.row(row, out)?;
        }
        meter.add(data.len());
        matrices.push(data);
    }
    let vectors = recipes.vectors.iter().map(|parts| vector_data(parts, |name| read_vector(weights, name)));
    Ok(cpu::Weights { matrices, vectors: vectors.collect::<Result<_>>()? })
}

/// Loads all weights to a GPU.
pub(crate) fn load_gpu(
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
        let stored = split(recipe, row_bytes, device.max_binding())?;
        let mut pieces = Vec::with_capacity(stored.len());
        for piece in stored {
            pieces.push((piece, upload(device, &source, piece, row_bytes, &mut meter)?));
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
    split(recipe, row_stride(recipe.cols) * format.bytes(), device.max_binding())
}

/// Cuts a matrix into pieces of whole pairs of rows (a pair is one output of an interleaved matrix) within a limit.
fn split(recipe: &MatrixRecipe, row_bytes: usize, limit: u64) -> Result<Vec<Piece>> {
    let most = (limit / row_bytes as u64).min(u64::from(u32::MAX)) as usize / 2 * 2;
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

fn upload(
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
        meter.add(count * cols);
    }
    Ok(buffer)
}
