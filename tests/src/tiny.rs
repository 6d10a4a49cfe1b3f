//! Tiny checkpoints made in memory: any config, seeded random weights, a byte-level tokenizer where a test needs text.
//!
//! Weights are scaled so that every layer matters and nothing saturates: a mistake in any of them moves the logits.

use std::io::Cursor;

use serde_json::{Value, json};
use taipan::weights::serialize;
use taipan::{Config, Device, Dtype, ElementType, LoadOptions, Model, ModelFiles, Quant, Weights};

use crate::pieces::Pieces;

/// What the gates do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gate {
    /// Select some tokens.
    Mixed,
    /// Select every token.
    Always,
    /// Select none.
    Never,
}

/// A checkpoint to be made.
#[derive(Clone, Debug)]
pub struct Tiny {
    /// `config.json`.
    pub config: Value,
    /// Of the weights.
    pub seed: u64,
    /// What the gates do.
    pub gate: Gate,
    /// How weights are stored.
    pub dtype: Dtype,
    /// The vocabulary's text, if it has any.
    pub pieces: Option<Pieces>,
    /// Whether a token is followed by the next one of the vocabulary when decoding greedily.
    pub scripted: bool,
    /// Single elements to overwrite: tensor, index, value.
    pub patches: Vec<(String, usize, f32)>,
}

impl Tiny {
    /// A model whose layers are spelled `m` (Mamba-2) and `s` (selective attention), with a vocabulary of 48.
    ///
    /// # Panics
    /// At any other letter.
    #[must_use]
    pub fn new(layers: &str) -> Self {
        let name = |c| match c {
            'm' => "mamba2",
            's' => "selective_attention",
            _ => panic!("layer `{c}`"),
        };
        let layers: Vec<&str> = layers.chars().map(name).collect();
        let config = json!({
            "model_type": "taipan", "vocab_size": 48, "hidden_size": 32, "layer_types": layers,
            "mamba2": { "d_state": 8, "d_conv": 4, "expand": 2, "head_dim": 16, "n_groups": 1 },
            "selective_attention": { "num_heads": 2, "head_dim": 16, "window": 8, "intermediate_size": 48 },
        });
        let (seed, gate, dtype) = (1, Gate::Mixed, Dtype::F32);
        Self { config, seed, gate, dtype, pieces: None, scripted: false, patches: Vec::new() }
    }

    /// Sets a key of the config, as in `mamba2.n_groups`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        let pointer = format!("/{}", key.replace('.', "/"));
        let (parent, key) = pointer.rsplit_once('/').expect("the pointer starts with a slash");
        self.config.pointer_mut(parent).expect("the section is there")[key] = value.into();
        self
    }

    /// Another seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Another habit of the gates.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Another storage type.
    #[must_use]
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// Overwrites one element of a tensor.
    #[must_use]
    pub fn patch(mut self, tensor: &str, index: usize, value: f32) -> Self {
        self.patches.push((tensor.to_owned(), index, value));
        self
    }

    /// Gives the vocabulary text: one token for each piece.
    #[must_use]
    pub fn pieces(self, pieces: Pieces) -> Self {
        let mut tiny = self.with("vocab_size", pieces.len());
        if let Some(id) = pieces.end() {
            tiny = tiny.with("eos_token_id", id);
        }
        Self { pieces: Some(pieces), ..tiny }
    }

    /// Makes greedy decoding walk through the vocabulary in order, so that a test can write the text; the layers still
    /// have their say in every state.
    #[must_use]
    pub fn scripted(self) -> Self {
        Self { scripted: true, ..self.with("tie_word_embeddings", false) }
    }

    /// The parsed config.
    ///
    /// # Panics
    /// If it is not valid.
    #[must_use]
    pub fn parsed(&self) -> Config {
        Config::from_json(self.config.to_string().as_bytes()).expect("a tiny model's config is valid")
    }

    /// The files of the checkpoint.
    ///
    /// # Panics
    /// If the config is not valid, or a patch names no element.
    #[must_use]
    pub fn files(&self) -> ModelFiles {
        let tensors = self.tensors();
        let quant = Quant::of(self.dtype.format());
        let dtype = if quant.is_some() { Dtype::F32 } else { self.dtype };
        let element = ElementType::from(dtype);
        let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, _, values)| stored(dtype, values)).collect();
        let entries: Vec<_> =
            tensors.iter().zip(&bytes).map(|((n, s, _), b)| (&n[..], element, &s[..], &b[..])).collect();
        let mut file = serialize(&entries);
        if let Some(quant) = quant {
            file = self.quantised(file, quant);
        }
        ModelFiles {
            config: self.config.to_string().into_bytes().into(),
            weights: vec![("model.safetensors".to_owned(), file.into())],
            tokenizer: self.pieces.as_ref().map(|p| p.tokenizer_json().into()),
        }
    }

    /// Opens the model with default options.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open(&self, device: &Device) -> Model {
        self.open_with(device, LoadOptions::default())
    }

    /// Opens the model.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open_with(&self, device: &Device, options: LoadOptions) -> Model {
        self.try_open(device, options).unwrap_or_else(|e| panic!("{}: {e}", self.config))
    }

    /// Tries to open the model.
    ///
    /// # Errors
    /// Those of [`Model::from_bytes`].
    pub fn try_open(&self, device: &Device, options: LoadOptions) -> taipan::Result<Model> {
        pollster::block_on(Model::from_bytes(self.files(), device, options))
    }

    /// What `taipan quantize` makes of a file of floats.
    fn quantised(&self, file: Vec<u8>, quant: Quant) -> Vec<u8> {
        let weights = Weights::from_bytes(vec![("model.safetensors".to_owned(), file.into())]).expect("valid");
        let mut out = Cursor::new(Vec::new());
        pollster::block_on(taipan::quantize(&weights, &self.parsed(), quant, &mut out, None)).expect("it has floats");
        out.into_inner()
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut tensors: Vec<_> = (0..)
            .zip(self.parsed().expected_tensors())
            .map(|(i, (name, shape))| {
                let values = self.values(&name, &shape, Numbers { seed: self.seed << 16 | i, drawn: 0 });
                (name, shape, values)
            })
            .collect();
        if self.scripted {
            follow_the_script(&mut tensors);
        }
        for (name, index, value) in &self.patches {
            let tensor = tensors.iter_mut().find(|t| t.0 == *name).expect("a patched tensor exists");
            tensor.2[*index] = *value;
        }
        tensors
    }

    fn values(&self, name: &str, shape: &[usize], mut numbers: Numbers) -> Vec<f32> {
        let count: usize = shape.iter().product();
        let last = name.rsplit('.').next().unwrap_or(name);
        let mut fill = |lo: f32, hi: f32| -> Vec<f32> { (0..count).map(|_| numbers.between(lo, hi)).collect() };
        // Uniform in ±√(3/n) has variance 1/n.
        let fan_in = (3.0 / shape[shape.len() - 1] as f32).sqrt();
        if name.ends_with("gate.bias") {
            return match self.gate {
                Gate::Mixed => vec![0.0, 0.1],
                Gate::Always => vec![-3.0, 3.0],
                Gate::Never => vec![3.0, -3.0],
            };
        }
        match last {
            "dt_bias" => fill(-4.0, 0.5),
            "A_log" => fill(0.0, 2.5),
            "D" => fill(0.8, 1.2),
            "bias" => fill(-0.2, 0.2),
            _ if name.ends_with("norm.weight") => fill(0.8, 1.2),
            _ if name.ends_with("conv1d.weight") => fill(-0.8, 0.8),
            _ if name == "embedding.weight" => fill(-1.0, 1.0),
            // The script must win: what the layers add is small beside the embedding.
            _ if self.scripted && ["out_proj", "o_proj", "down_proj"].iter().any(|n| name.contains(n)) => {
                fill(-0.05 * fan_in, 0.05 * fan_in)
            }
            _ if name.ends_with("gate.weight") && self.gate != Gate::Mixed => fill(-0.3 * fan_in, 0.3 * fan_in),
            _ => fill(-fan_in, fan_in),
        }
    }
}

/// Row i + 1 of the head answers to embedding i.
fn follow_the_script(tensors: &mut [(String, Vec<usize>, Vec<f32>)]) {
    let at = |name: &str| tensors.iter().position(|t| t.0 == name).expect("every model has it");
    let (embedding, head) = (at("embedding.weight"), at("lm_head.weight"));
    let cols = tensors[embedding].1[1];
    let mut rows = tensors[embedding].2.clone();
    rows.rotate_right(cols);
    tensors[head].2 = rows;
}

fn stored(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    use half::{bf16, f16};
    match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::Q8 | Dtype::Q4 => unreachable!("a whole file is quantised"),
    }
}

/// A seeded stream of numbers.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Which stream.
    pub seed: u64,
    /// Numbers drawn so far.
    pub drawn: u32,
}

impl Numbers {
    /// The next number, in `[lo, hi)`.
    pub fn between(&mut self, lo: f32, hi: f32) -> f32 {
        self.drawn += 1;
        lo + (hi - lo) * taipan_reference::uniform(self.seed, self.drawn)
    }
}

/// Seeded token ids.
#[must_use]
pub fn ids(count: usize, vocab: usize, seed: u64) -> Vec<u32> {
    let mut numbers = Numbers { seed: seed ^ 0x1d5, drawn: 0 };
    (0..count).map(|_| (numbers.between(0.0, vocab as f32) as u32).min(vocab as u32 - 1)).collect()
}
