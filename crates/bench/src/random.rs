//! Weights from a counter: the same numbers on every device, never zero, with the scales of a trained model.
//!
//! Element `i` of matrix `m` is `(2·b − 255)·scale`, `b` the top byte of a hash of `(seed, m, i)`: exact in f16, so f16 and
//! f32 storage hold the same model. `fill.wgsl` computes the same on the device. Vectors are few and drawn here.

use sha2::{Digest, Sha256};
use taipan::Config;
use taipan::description::{Description, MatrixRecipe, Part};
use taipan::run::cpu::{self, VectorData, vector_data};
use taipan::run::dense::PackedMatrix;
use taipan_kernels::WeightFormat;

/// A model that is a config and a seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Name for records.
    pub id: String,
    /// The config.
    pub config: Config,
    /// Everything random follows from it.
    pub seed: u64,
    /// Bias of each selective attention layer's gate, as found by [`crate::draw::calibrate`]; missing ones are 0.
    pub gate_bias: Vec<f32>,
}

fn scramble(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x7feb_352d);
    h ^= h >> 15;
    h = h.wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}

/// The seed of one matrix, as the shader takes it.
pub(crate) fn matrix_seed(seed: u64, matrix: usize) -> u32 {
    scramble(scramble((seed as u32) ^ scramble((seed >> 32) as u32 + 1)).wrapping_add(matrix as u32))
}

/// An odd integer in [−255, 255].
pub(crate) fn level(seed: u32, index: u32) -> i32 {
    2 * (scramble(scramble(index.wrapping_add(0x9e37_79b9)) ^ seed) >> 24) as i32 - 255
}

/// `s·2⁻ᵏ` with 4 ≤ s < 8, near what gives the levels (of standard deviation 148) that of a trained matrix.
pub(crate) fn matrix_scale(recipe: &MatrixRecipe) -> f32 {
    let name = recipe.tensors[0].as_str();
    let deviation = if name.starts_with("embedding") || name.starts_with("lm_head") {
        // Logits of size one, and a residual stream that the layers can move.
        (recipe.cols as f32).sqrt().recip()
    } else if name.ends_with("out_proj.weight") || name.ends_with("down_proj.weight") {
        0.5 * (recipe.cols as f32).sqrt().recip()
    } else {
        (recipe.cols as f32).sqrt().recip()
    };
    let wanted = deviation / 148.0;
    let k = 2 - wanted.log2().floor() as i32;
    (wanted * 2f32.powi(k)).round().clamp(4.0, 7.0) * 2f32.powi(-k)
}

/// Range of the elements of a vector.
fn range(name: &str, cols: usize) -> (f32, f32) {
    let last = |part: &str| name.ends_with(part);
    if last("dt_bias") {
        (-4.0, -1.0)
    } else if last("A_log") {
        (0.0, 2.7)
    } else if last("norm.weight") || last(".D") {
        (0.8, 1.2)
    } else if last("gate.weight") {
        let scale = (3.0 / cols as f32).sqrt();
        (-scale, scale)
    } else {
        // Convolutions and biases.
        (-0.5, 0.5)
    }
}

impl Drawn {
    /// A model without calibrated gates.
    #[must_use]
    pub fn new(id: &str, config: Config, seed: u64) -> Self {
        Self { id: id.to_owned(), config, seed, gate_bias: Vec::new() }
    }

    /// Hash of what the model follows from.
    #[must_use]
    pub fn sha256(&self) -> String {
        let bits: Vec<u32> = self.gate_bias.iter().map(|b| b.to_bits()).collect();
        let text = format!("drawn weights, form 1\n{}\n{}\n{bits:?}", self.config.to_canonical_json(), self.seed);
        Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// All vectors of a description.
    #[must_use]
    pub fn vectors(&self, d: &Description) -> Vec<VectorData> {
        let mut sal = 0;
        let vector = |(i, parts): (usize, &Vec<Part>)| {
            let is_gate = matches!(parts.last(), Some(Part::Tensor(name)) if name.ends_with("gate.bias"));
            let data = vector_data::<std::convert::Infallible>(parts, |name| Ok(self.tensor(i, name)));
            let Ok(mut data) = data;
            if let (true, VectorData::F32(v)) = (is_gate, &mut data) {
                let n = v.len();
                v[n - 2] = 0.0;
                v[n - 1] = self.gate_bias.get(sal).copied().unwrap_or(0.0);
                sal += 1;
            }
            data
        };
        d.recipes.vectors.iter().enumerate().map(vector).collect()
    }

    fn tensor(&self, vector: usize, name: &str) -> Vec<f32> {
        let shapes = self.config.expected_tensors();
        let (_, shape) = shapes.iter().find(|(n, _)| n == name).expect("a recipe names tensors of its config");
        let (lo, hi) = range(name, shape[shape.len() - 1]);
        // Parts of one vector get numbers of their own.
        let salt = name.bytes().fold(vector as u32, |h, b| scramble(h ^ u32::from(b)));
        let number = |i: u32| lo + (hi - lo) * taipan_reference::uniform(self.seed ^ u64::from(salt) << 16, i);
        (0..shape.iter().product::<usize>() as u32).map(number).collect()
    }

    /// One matrix, dense.
    #[must_use]
    pub fn matrix(&self, index: usize, recipe: &MatrixRecipe) -> Vec<f32> {
        let (seed, scale) = (matrix_seed(self.seed, index), matrix_scale(recipe));
        let mut data = vec![0.0; recipe.rows * recipe.cols];
        let fill = |(chunk, out): (usize, &mut [f32])| {
            for (i, x) in out.iter_mut().enumerate() {
                *x = level(seed, (chunk * CHUNK + i) as u32) as f32 * scale;
            }
        };
        #[cfg(not(target_arch = "wasm32"))]
        {
            use rayon::prelude::*;
            data.par_chunks_mut(CHUNK).enumerate().for_each(fill);
        }
        #[cfg(target_arch = "wasm32")]
        data.chunks_mut(CHUNK).enumerate().for_each(fill);
        data
    }

    /// All weights for the CPU device.
    #[must_use]
    pub fn cpu_weights(&self, d: &Description, format: WeightFormat) -> cpu::Weights {
        let all = d.recipes.matrices.iter().enumerate();
        let matrices = all.map(|(i, m)| PackedMatrix::pack(&self.matrix(i, m), m.cols, format)).collect();
        cpu::Weights { matrices, vectors: self.vectors(d) }
    }
}

const CHUNK: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::PRESETS;
    use half::f16;
    use taipan::description::Shape;

    #[test]
    fn every_number_is_exact_in_f16_and_none_is_zero() {
        for preset in PRESETS {
            let d = Description::new(&preset.config(), Shape { segment: 64, chunk: 64, logit_rows: 1 });
            for recipe in &d.recipes.matrices {
                let scale = matrix_scale(recipe);
                for level in [-255, -201, -1, 1, 3, 127, 255] {
                    let x = level as f32 * scale;
                    assert_eq!(f16::from_f32(x).to_f32(), x, "{} {:?} {level}", preset.name, recipe.tensors);
                    assert_ne!(x, 0.0);
                }
                let (deviation, wanted) = (148.0 * scale, (recipe.cols as f32).sqrt().recip());
                assert!((0.4..1.2).contains(&(deviation / wanted)), "{} {:?}", preset.name, recipe.tensors);
            }
        }
    }

    #[test]
    fn levels_are_spread_evenly_and_differ_by_matrix() {
        let levels: Vec<i32> = (0..4096).map(|i| level(matrix_seed(1, 0), i)).collect();
        let mean = levels.iter().sum::<i32>() as f32 / 4096.0;
        assert!(mean.abs() < 10.0, "{mean}");
        assert!(levels.iter().all(|l| l % 2 != 0 && l.abs() <= 255));
        assert_ne!(levels, (0..4096).map(|i| level(matrix_seed(1, 1), i)).collect::<Vec<_>>());
        assert_ne!(levels, (0..4096).map(|i| level(matrix_seed(2, 0), i)).collect::<Vec<_>>());
    }
}
