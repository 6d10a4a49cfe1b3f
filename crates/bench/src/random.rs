//! A checkpoint drawn from a seed: never zeros, and with the scales of a trained model.

use std::borrow::Cow;

use half::f16;
use taipan::{Config, ElementType, ModelFiles};

/// `mamba2-4.8m`: hidden size 256, 8 Mamba-2 layers, d_state 128, vocabulary 4096.
pub(crate) const MAMBA2_4_8M: &str = r#"{
  "model_type": "taipan", "vocab_size": 4096, "hidden_size": 256,
  "layer_types": ["mamba2", "mamba2", "mamba2", "mamba2", "mamba2", "mamba2", "mamba2", "mamba2"],
  "mamba2": { "d_state": 128, "d_conv": 4, "expand": 2, "head_dim": 64, "n_groups": 1 }
}"#;

/// Files of a model with this config; matrices f16, the rest f32.
pub(crate) fn files(config: &'static str, seed: u64) -> taipan::Result<ModelFiles> {
    let parsed = Config::from_json(config.as_bytes())?;
    let mut counter = 0;
    let mut tensors = Vec::new();
    for (name, shape) in parsed.expected_tensors() {
        let n: usize = shape.iter().product();
        let (lo, hi) = range(&name, &shape);
        let values: Vec<f32> = (0..n)
            .map(|_| {
                counter += 1;
                lo + (hi - lo) * taipan_reference::uniform(seed, counter)
            })
            .collect();
        tensors.push((name, shape, values));
    }
    Ok(ModelFiles {
        config: Cow::Borrowed(config.as_bytes()),
        weights: vec![("model.safetensors".to_owned(), Cow::Owned(serialize(&tensors)))],
        tokenizer: None,
    })
}

fn range(name: &str, shape: &[usize]) -> (f32, f32) {
    let last = |part: &str| name.ends_with(part);
    if last("dt_bias") {
        (-4.0, -1.0)
    } else if last("A_log") {
        (0.0, 2.7)
    } else if last("norm.weight") || last(".D") {
        (0.8, 1.2)
    } else if last("conv1d.weight") || last(".bias") {
        (-0.5, 0.5)
    } else {
        let scale = (3.0 / shape[shape.len() - 1] as f32).sqrt();
        (-scale, scale)
    }
}

fn serialize(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    // Larger elements first, so that nothing is misaligned.
    let is_matrix = |(_, shape, _): &&(String, Vec<usize>, Vec<f32>)| shape.len() == 2;
    let f32s = tensors.iter().filter(|t| !is_matrix(t)).map(|(name, shape, values)| {
        (name.as_str(), ElementType::F32, &shape[..], values.iter().flat_map(|x| x.to_le_bytes()).collect())
    });
    let f16s = tensors.iter().filter(is_matrix).map(|(name, shape, values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        (name.as_str(), ElementType::F16, &shape[..], bytes)
    });
    let all: Vec<(&str, ElementType, &[usize], Vec<u8>)> = f32s.chain(f16s).collect();
    let heads: Vec<_> = all.iter().map(|(name, element, shape, _)| (*name, *element, *shape)).collect();
    let mut out = taipan::weights::header(&heads);
    all.iter().for_each(|(.., bytes)| out.extend(bytes));
    out
}
