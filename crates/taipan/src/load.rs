//! From a checkpoint to memory: every weight of a description, checked, converted and (for a GPU) uploaded in pieces.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use half::{bf16, f16};
use taipan_gpu::{Gpu, give_way};
use taipan_kernels::{Piece, WeightFormat, row_stride};

use crate::description::{MatrixRecipe, Part, Recipes};
use crate::error::{Error, Result};
use crate::memory::zeros;
use crate::run::cpu::{self, VectorData, vector_data};
use crate::run::dense::PackedMatrix;
use crate::run::gpu;
use crate::weights::{Dtype, Tensor, TensorInfo, WeightSource};

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
struct Source<'a, S> {
    weights: &'a S,
    tensors: Vec<(&'a TensorInfo, Dtype)>,
    /// Of each tensor, what was fetched last.
    windows: Vec<Window<'a>>,
    recipe: &'a MatrixRecipe,
    format: WeightFormat,
}

/// Consecutive rows of a tensor: all that is there of it at a time.
#[derive(Clone, Default)]
struct Window<'a> {
    first_row: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a, S: WeightSource> Source<'a, S> {
    fn open(weights: &'a S, recipe: &'a MatrixRecipe, dtype: WeightDtype) -> Result<Self> {
        let find = |name: &String| {
            let info = weights.headers().get(name)?;
            Ok((info, info.dtype()?))
        };
        let tensors = recipe.tensors.iter().map(find).collect::<Result<Vec<_>>>()?;
        let format = match dtype {
            WeightDtype::Auto => stored_format(&tensors),
            WeightDtype::F32 => WeightFormat::F32,
            WeightDtype::F16 => WeightFormat::F16,
            WeightDtype::Bf16 => WeightFormat::Bf16,
        };
        let windows = vec![Window::default(); tensors.len()];
        Ok(Self { weights, tensors, windows, recipe, format })
    }

    /// Reads what the next rows are made of.
    async fn fetch(&mut self, rows: Range<usize>) -> Result<()> {
        for i in 0..self.tensors.len() {
            let (info, dtype) = self.tensors[i];
            let rows = self.rows_of(i, &rows);
            let row_bytes = (self.recipe.cols * dtype.size()) as u64;
            let bytes = self.weights.read(info, rows.start as u64 * row_bytes..rows.end as u64 * row_bytes).await?;
            self.windows[i] = Window { first_row: rows.start, bytes };
        }
        Ok(())
    }

    /// The rows of a tensor that rows of the matrix are made of.
    fn rows_of(&self, tensor: usize, rows: &Range<usize>) -> Range<usize> {
        let count = self.tensors.len();
        if self.recipe.interleave {
            let before = |row: usize| row.saturating_sub(tensor).div_ceil(count);
            return before(rows.start)..before(rows.end);
        }
        let height = |(info, _): &(&TensorInfo, Dtype)| info.elements() / self.recipe.cols;
        let offset: usize = self.tensors[..tensor].iter().map(height).sum();
        let inside = |row: usize| row.saturating_sub(offset).min(height(&self.tensors[tensor]));
        inside(rows.start)..inside(rows.end)
    }

    /// One of the rows fetched last.
    fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let holds = |i: &usize| !self.rows_of(*i, &(row..row + 1)).is_empty();
        let i = (0..self.tensors.len()).find(holds).expect("a recipe's rows are those of its tensors");
        let (Window { first_row, bytes }, (info, dtype)) = (&self.windows[i], self.tensors[i]);
        let window = Tensor { info, dtype, bytes };
        let (first, start) = (first_row * self.recipe.cols, self.rows_of(i, &(row..row + 1)).start * self.recipe.cols);
        window.read_f32(start - first, out);
        // Here and not over whole tensors in front, so that a large one is read once and loading can be given up soon.
        if out.iter().fold(false, |any, x| any | !x.is_finite()) {
            window.check_finite().map_err(|e| further(e, first))?;
        }
        self.round(&window, start, out)
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

/// An element of a window is that much further on in its tensor.
fn further(error: Error, first: usize) -> Error {
    match error {
        Error::NotFinite { name, file, index, value } => Error::NotFinite { name, file, index: index + first, value },
        other => other,
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
fn stored_format(tensors: &[(&TensorInfo, Dtype)]) -> WeightFormat {
    let all = |dtype| tensors.iter().all(|(_, found)| *found == dtype);
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

/// A vector from the parts it is made of.
async fn read_vector<S: WeightSource>(weights: &S, parts: &[Part]) -> Result<VectorData> {
    let mut read = HashMap::new();
    for part in parts {
        if let Part::Tensor(name) = part {
            let info = weights.headers().get(name)?;
            let bytes = weights.read(info, 0..info.stored_bytes()).await?;
            let tensor = Tensor { info, dtype: info.dtype()?, bytes: &bytes };
            tensor.check_finite()?;
            read.insert(name.as_str(), tensor.to_vec_f32());
        }
    }
    vector_data(parts, |name| Ok(read.remove(name).expect("every tensor among the parts was read")))
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
        let mut source = Source::open(weights, recipe, dtype)?;
        let name = || recipe.tensors.join(" + ");
        let mut data = PackedMatrix::reserve(recipe.rows, recipe.cols, source.format, name)?;
        let batch = (STAGE / recipe.cols).clamp(1, recipe.rows);
        let mut rows = zeros(batch * recipe.cols, name)?;
        for first in (0..recipe.rows).step_by(batch) {
            let count = batch.min(recipe.rows - first);
            source.fetch(first..first + count).await?;
            for (i, out) in rows.chunks_exact_mut(recipe.cols).take(count).enumerate() {
                source.row(first + i, out)?;
            }
            data.set_rows(first, &rows[..count * recipe.cols]);
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
        let mut source = Source::open(weights, recipe, dtype)?;
        let row_bytes = row_stride(recipe.cols) * source.format.bytes();
        let stored = split(recipe, source.format, device.max_binding())?;
        let mut pieces = Vec::with_capacity(stored.len());
        for piece in stored {
            pieces.push((piece, upload(device, &mut source, piece, row_bytes, &mut meter).await?));
        }
        matrices.push(gpu::MatrixBuffers { format: source.format, pieces });
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

async fn upload<S: WeightSource>(
    device: &Gpu,
    source: &mut Source<'_, S>,
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
        let start = piece.first_row as usize + first;
        source.fetch(start..start + count).await?;
        for (i, out) in rows.chunks_exact_mut(stride).take(count).enumerate() {
            source.row(start + i, &mut out[..cols])?;
        }
        gpu::write_rows(device, &buffer, (first * row_bytes) as u64, &rows[..count * stride], source.format);
        device.check()?;
        meter.add(count * cols).await;
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::Weights;

    fn recipe(rows: usize, cols: usize) -> MatrixRecipe {
        MatrixRecipe { tensors: vec!["w".to_owned()], interleave: false, rows, cols }
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
                let recipe = recipe(2, 2);
                let mut source = Source::open(&weights, &recipe, dtype)?;
                source.fetch(1..2).now_or_never().expect("what is in memory is read at once")?;
                source.row(1, &mut row)?;
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

    /// Three tensors of two columns, their elements counted through.
    fn three() -> Weights {
        let tensors = [("a", 3, 0.0), ("b", 1, 6.0), ("c", 3, 8.0)];
        let bytes = tensors.map(|(_, rows, first)| {
            let values = (0..2 * rows).map(|i| first + i as f32);
            values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
        });
        let shapes = tensors.map(|(_, rows, _)| [rows, 2]);
        let entries: Vec<_> =
            (0..3).map(|i| (tensors[i].0, crate::ElementType::F32, &shapes[i][..], &bytes[i][..])).collect();
        let file = crate::weights::serialize(&entries);
        Weights::from_bytes(vec![("a.safetensors".to_owned(), file.into())]).unwrap()
    }

    #[test]
    fn rows_come_right_whatever_is_fetched_at_a_time() {
        let weights = three();
        let named = |names: &[&str], interleave, rows| MatrixRecipe {
            tensors: names.iter().map(|n| (*n).to_owned()).collect(),
            interleave,
            rows,
            cols: 2,
        };
        let stacked = (named(&["a", "b", "c"], false, 7), vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        let in_turn = (named(&["a", "c"], true, 6), vec![0.0, 8.0, 2.0, 10.0, 4.0, 12.0]);
        for (recipe, expected) in [stacked, in_turn] {
            for (start, end) in (0..recipe.rows).flat_map(|s| (s + 1..=recipe.rows).map(move |e| (s, e))) {
                let mut source = Source::open(&weights, &recipe, WeightDtype::Auto).unwrap();
                source.fetch(start..end).now_or_never().expect("in memory").unwrap();
                for (row, first) in expected.iter().enumerate().take(end).skip(start) {
                    let mut out = [0.0; 2];
                    source.row(row, &mut out).unwrap();
                    assert_eq!(out, [*first, first + 1.0], "row {row} of {start}..{end}");
                }
            }
        }
    }

    #[test]
    fn weights_that_come_in_ranges_are_those_in_memory_and_a_short_answer_is_an_error() {
        let file = {
            let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
            crate::weights::serialize(&[("w", crate::ElementType::F32, &[2, 2], &bytes)])
        };
        let start = crate::FileStart { name: "a.safetensors", bytes: &file, len: file.len() as u64 };
        let recipe = recipe(2, 2);
        let read = |short: usize, rows: Range<usize>| {
            let headers = crate::Headers::parse(&[start], None)?;
            let answer = |_: &str, r: Range<u64>| {
                std::future::ready(Ok(file[r.start as usize..r.end as usize - short].to_vec()))
            };
            let weights = crate::RangedWeights::new(headers, answer);
            let mut source = Source::open(&weights, &recipe, WeightDtype::Auto)?;
            source.fetch(rows.clone()).now_or_never().expect("ready")?;
            let mut row = [0.0; 2];
            source.row(rows.start, &mut row).map(|()| row)
        };
        assert_eq!(read(0, 0..1).unwrap(), [1.0, 2.0]);
        assert!(matches!(read(0, 1..2), Err(Error::NotFinite { index: 3, .. })), "its index in the tensor");
        assert!(matches!(read(1, 0..1), Err(Error::Weights { .. })));
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
