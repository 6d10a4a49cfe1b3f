//! Weights of a model in main memory.

use taipan_kernels::Vector;

use crate::description::{Description, Part};
use crate::error::Result;
use crate::load::{WeightDtype, load_cpu};
use crate::run::dense::PackedMatrix;

/// A weight vector in memory.
#[derive(Clone, Debug)]
pub enum VectorData {
    /// Numbers.
    F32(Vec<f32>),
    /// Words.
    U32(Vec<u32>),
}

/// Weights of a model: matrices in their storage format, everything else f32.
#[derive(Debug)]
pub struct Weights {
    /// Matrices in the order of their recipes.
    pub matrices: Vec<PackedMatrix>,
    /// Vectors in the order of their recipes.
    pub vectors: Vec<VectorData>,
}

impl Weights {
    /// Loads what a description asks for from a checkpoint, as the CPU device does.
    ///
    /// # Errors
    /// A tensor that is missing or holds something that is no number.
    pub async fn load(checkpoint: &crate::Weights, description: &Description, dtype: WeightDtype) -> Result<Self> {
        load_cpu(checkpoint, &description.recipes, dtype, None).await
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let vectors = self.vectors.iter().map(|v| match v {
            VectorData::F32(v) => v.capacity(),
            VectorData::U32(v) => v.capacity(),
        });
        self.matrices.iter().map(PackedMatrix::bytes).sum::<u64>() + 4 * vectors.sum::<usize>() as u64
    }

    pub(super) fn f32(&self, v: Vector) -> &[f32] {
        match &self.vectors[v.id as usize] {
            VectorData::F32(v) => v,
            VectorData::U32(_) => panic!("vector {} holds words", v.id),
        }
    }

    pub(super) fn words(&self, v: Option<Vector>) -> &[u32] {
        match v.map(|v| &self.vectors[v.id as usize]) {
            Some(VectorData::U32(v)) => v,
            Some(VectorData::F32(_)) => panic!("a rotary table holds words"),
            None => &[],
        }
    }
}

/// Makes one weight vector from its recipe; `read` yields the elements of a tensor.
///
/// # Errors
/// Those of `read`.
pub fn vector_data<E>(
    parts: &[Part],
    mut read: impl FnMut(&str) -> std::result::Result<Vec<f32>, E>,
) -> std::result::Result<VectorData, E> {
    if let [Part::Words(words)] = parts {
        return Ok(VectorData::U32(words.clone()));
    }
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Tensor(name) => out.extend(read(name)?),
            Part::Scaled(name, factors) => {
                let factors = factors.iter().flat_map(|(n, factor)| std::iter::repeat_n(factor, *n));
                out.extend(read(name)?.iter().zip(factors).map(|(x, factor)| x * factor));
            }
            Part::Slice(name, range, factor) => out.extend(read(name)?[range.clone()].iter().map(|x| factor * x)),
            Part::InTurn(a, b) => out.extend(read(a)?.into_iter().zip(read(b)?).flat_map(|(a, b)| [a, b])),
            Part::Halves(name) => {
                let both = read(name)?;
                let (first, second) = both.split_at(both.len() / 2);
                out.extend(first.iter().zip(second).flat_map(|(a, b)| [a, b]));
            }
            Part::Zeros(n) => out.resize(out.len() + n, 0.0),
            Part::Words(_) => unreachable!("words stand alone"),
        }
    }
    out.shrink_to_fit();
    Ok(VectorData::F32(out))
}
