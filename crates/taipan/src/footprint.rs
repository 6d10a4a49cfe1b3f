//! What a model takes, before any weight is read.

use std::collections::HashMap;

use taipan_kernels::{BufferDesc, BufferId, Call, Kernel, WeightFormat, row_stride};

use crate::description::{Buffers, Description, MatrixRecipe, Part};
use crate::layers::Programs;
use crate::load::{WeightDtype, format_of, split};
use crate::model::dense_bytes;
use crate::run::dense::PackedMatrix;
use crate::shape::{Target, shape};
use crate::{Config, Device, Dtype, Headers, LoadOptions};

/// What a model takes on a device, from its config alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Parameters.
    pub parameters: u64,
    /// Bytes of the weights, with the padding that the device adds to matrices.
    pub weight_bytes: u64,
    /// Bytes of a session's state at its start; of a model without full attention, whatever the length of its text.
    pub state_bytes: u64,
    /// Bytes by which the state grows for each token of a text beyond the first page: keys and values of full attention.
    pub state_bytes_per_token: u64,
    /// Bytes of scratch space: on a GPU shared by sessions, room for a copy of a state included; on the CPU of one session.
    pub scratch_bytes: u64,
    /// The largest buffer that cannot be split, and its bytes.
    pub largest_buffer: (String, u64),
    /// Dispatches of one decoded token, sampling included; 0 on the CPU.
    pub decode_dispatches: usize,
}

impl Footprint {
    /// Computes the footprint with matrices of one type and default options: what [`crate::Stats`] will say.
    #[must_use]
    pub fn of(config: &Config, device: &Device, dtype: Dtype) -> Self {
        Self::with(config, Target::of(device), &|_| dtype.format())
    }

    /// The footprint on a GPU whose storage bindings hold so many bytes, or without a limit on the CPU: the same as
    /// [`Footprint::of`] without opening a device, if that is no discrete GPU, on which segments may be longer.
    #[must_use]
    pub fn within(config: &Config, limit: Option<u64>, dtype: Dtype) -> Self {
        Self::with(config, Target { limit, discrete: false, cooperative: false }, &|_| dtype.format())
    }

    /// The footprint with every matrix as its file stores it.
    #[must_use]
    pub fn stored(config: &Config, device: &Device, headers: &Headers) -> Self {
        let format = |m: &MatrixRecipe| format_of(headers, m, WeightDtype::Auto).unwrap_or(WeightFormat::F32);
        Self::with(config, Target::of(device), &format)
    }

    fn with(config: &Config, target: Target, format: &dyn Fn(&MatrixRecipe) -> WeightFormat) -> Self {
        let limit = target.limit;
        let shape = shape(config, &LoadOptions::default(), target).expect("the default shape is valid");
        let d = Description::new(config, shape);
        let bytes = |buffers: &Buffers| if limit.is_some() { buffers.bytes() } else { dense_bytes(buffers) };
        let copy = if limit.is_some() { d.state.bytes() } else { 0 };
        let one = |b: &BufferDesc| if limit.is_some() { b.gpu_bytes() } else { 4 * b.len() as u64 };
        let row = |id| {
            let BufferId::State(index) = id else { return 0 };
            let cache = &d.state.list()[index as usize];
            4 * if limit.is_some() { cache.stride() } else { cache.cols }
        };
        let buffers = d.state.list().iter().chain(d.scratch_buffers.list());
        let largest = buffers.max_by_key(|b| one(b)).expect("every model has buffers");
        let matrices = d.recipes.matrices.iter().map(|m| match limit {
            Some(limit) => matrix_bytes(m, format(m), limit),
            None => PackedMatrix::bytes_of(m.rows, m.cols, format(m)),
        });
        let vectors = vector_lengths(config, &d).map(|n| 4 * if limit.is_some() { row_stride(n) } else { n } as u64);
        Self {
            parameters: config.parameters(),
            weight_bytes: matrices.sum::<u64>() + vectors.sum::<u64>(),
            state_bytes: bytes(&d.state),
            state_bytes_per_token: d.caches().map(|id| row(id) as u64).sum(),
            scratch_bytes: bytes(&d.scratch_buffers) + copy,
            largest_buffer: (largest.name.clone(), one(largest)),
            decode_dispatches: limit.map_or(0, |limit| dispatches(&d, format, limit)),
        }
    }
}

/// Bytes of a matrix on a GPU: a piece is a buffer, and a buffer a multiple of 16 bytes.
fn matrix_bytes(recipe: &MatrixRecipe, format: WeightFormat, limit: u64) -> u64 {
    let bytes = |rows: usize| (rows * format.row_bytes(recipe.cols)).next_multiple_of(16).max(16) as u64;
    // A matrix that cannot be split at all is refused when the model is opened.
    split(recipe, format, limit)
        .map_or_else(|_| bytes(recipe.rows), |pieces| pieces.iter().map(|p| bytes(p.rows as usize)).sum())
}

/// Elements of every vector that a model holds, those included that no checkpoint stores.
fn vector_lengths<'a>(config: &Config, d: &'a Description) -> impl Iterator<Item = usize> + 'a {
    let elements = |(name, shape): (String, Vec<usize>)| (name, shape.iter().product::<usize>());
    let tensors: HashMap<_, _> = config.expected_tensors().into_iter().map(elements).collect();
    d.recipes.vectors.iter().map(move |parts| {
        let len = |part: &Part| match part {
            Part::Tensor(name) | Part::Scaled(name, _) | Part::Halves(name) => tensors[name],
            Part::Slice(_, range, _) => range.len(),
            Part::InTurn(a, b) => tensors[a] + tensors[b],
            Part::Zeros(n) => *n,
            Part::Words(words) => words.len(),
        };
        parts.iter().map(len).sum()
    })
}

/// A call is one dispatch, or one for each piece of its matrix.
fn dispatches(d: &Description, format: &dyn Fn(&MatrixRecipe) -> WeightFormat, limit: u64) -> usize {
    // A matrix that cannot be split at all is refused when the model is opened.
    let pieces = |recipe: &MatrixRecipe| split(recipe, format(recipe), limit).map_or(1, |pieces| pieces.len());
    let count = |call: &Call| call.matrix().map_or(1, |m| pieces(&d.recipes.matrices[m.id as usize]));
    let programs = Programs::new(d);
    programs.decode.iter().chain(&programs.sample).map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_matrix_is_several_dispatches() {
        let config = Config::from_json(include_bytes!("../../cli/model/config.json")).unwrap();
        let target = Target { limit: Some(1 << 27), discrete: false, cooperative: false };
        let shape = shape(&config, &LoadOptions::default(), target).unwrap();
        let d = Description::new(&config, shape);
        let whole = dispatches(&d, &|_| WeightFormat::F32, u64::MAX);
        let embedding = (config.vocab_size * row_stride(config.hidden_size) * 4) as u64;
        // The embedding is the largest matrix; it is read to embed a token and to score the next one.
        assert_eq!(dispatches(&d, &|_| WeightFormat::F32, embedding), whole);
        assert_eq!(dispatches(&d, &|_| WeightFormat::F32, embedding - 1), whole + 2);
        assert_eq!(dispatches(&d, &|_| WeightFormat::F16, embedding / 2), whole);
    }
}
