//! Small models of every kind, drawn from a seed: on a device against the CPU's plain loops, where no file is at hand.

use taipan::{AttentionBound, Device, LoadOptions, Model, ModelFiles, Session, SessionOptions};

use crate::outcome::{ModelReport, Outcome};

/// Tokens of a prompt.
const PROMPT: usize = 70;
/// Tokens made after it.
const MADE: usize = 12;

const BURST: f64 = 2.0;

/// A small model of random weights.
pub(crate) struct Spec {
    /// What is special about it.
    name: &'static str,
    /// `m` is a Mamba-2 block, `s` selective attention.
    layers: &'static str,
    groups: u32,
    kv_heads: u32,
    rope: Option<f64>,
    tied: bool,
    bound: Option<f64>,
    /// One with which every gate and every token is decided clearly: otherwise two correct devices may differ.
    seed: u64,
}

const BASE: Spec = Spec { name: "", layers: "", groups: 1, kv_heads: 2, rope: None, tied: true, bound: None, seed: 1 };

/// The models there are.
pub(crate) const MODELS: [Spec; 5] = [
    Spec { name: "grouped_kv", layers: "ms", kv_heads: 1, seed: 2, ..BASE },
    Spec { name: "rotary", layers: "msm", rope: Some(10_000.0), seed: 3, ..BASE },
    Spec { name: "untied_groups2", layers: "mms", groups: 2, tied: false, seed: 1, ..BASE },
    Spec { name: "bounded", layers: "msms", bound: Some(0.15), seed: 3, ..BASE },
    Spec { name: "pure_mamba2", layers: "mm", seed: 2, ..BASE },
];

impl Spec {
    /// Its config.json; nothing is left to a default.
    fn config(&self) -> String {
        let kind = |letter| if letter == 'm' { "mamba2" } else { "selective_attention" };
        let layers: Vec<&str> = self.layers.chars().map(kind).collect();
        serde_json::json!({
            "model_type": "taipan", "vocab_size": VOCAB, "hidden_size": 64, "layer_types": layers,
            "tie_word_embeddings": self.tied, "rms_norm_eps": 1e-5,
            "mamba2": {
                "d_state": 16, "d_conv": 4, "expand": 2, "head_dim": 16, "n_groups": self.groups, "norm_eps": 1e-5,
                "conv_bias": true, "proj_bias": false, "time_step_limit": [0.0, null],
            },
            "selective_attention": {
                "num_heads": 2, "num_key_value_heads": self.kv_heads, "head_dim": 32, "window": 24,
                "intermediate_size": 192, "rope_theta": self.rope,
            },
        })
        .to_string()
    }

    async fn open(&self, device: &Device) -> taipan::Result<Session> {
        let files = ModelFiles::random(&self.config(), self.seed)?;
        let model = Model::from_bytes(files, device, LoadOptions::default()).await?;
        let attention_bound = self.bound.map(|share| AttentionBound::new(share, BURST)).transpose()?;
        model.session(SessionOptions { attention_bound, ..SessionOptions::default() })
    }

    /// What a device makes of it, against the CPU.
    pub(crate) async fn run(&self, device: &Device) -> taipan::Result<ModelReport> {
        let found = Outcome::of(self.open(device).await?, &prompt(), MADE).await?;
        let expected = Outcome::of(self.open(&Device::cpu()).await?, &prompt(), MADE).await?;
        Ok(found.against(&expected, "model", format!("{}, {PROMPT} tokens", self.name), self.seed))
    }
}

/// The prompt of all models.
fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|i| i * 37 % VOCAB as u32).collect()
}

const VOCAB: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    /// How closely gates and greedy tokens are decided: the smallest margin of each.
    async fn margins(spec: &Spec) -> (f32, f32) {
        let mut session = spec.open(&taipan::Device::cpu()).await.unwrap();
        session.trace_gates(true);
        session.prefill(&prompt()).await.unwrap();
        let mut token = f32::INFINITY;
        for _ in 0..MADE {
            let logits = session.logits().await.unwrap();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            token = token.min(logits[order[0]] - logits[order[1]]);
            session.prefill(&[order[0] as u32]).await.unwrap();
        }
        // The gate's margin is the logit of α.
        let gates = session.take_gates().alpha.into_iter().flatten().map(|a| (a / (1.0 - a)).ln().abs());
        (gates.fold(f32::INFINITY, f32::min), token)
    }

    #[test]
    fn every_model_decides_clearly() {
        for spec in MODELS {
            let clear = |seed| {
                let (gate, token) = pollster::block_on(margins(&Spec { seed, ..spec }));
                gate > 4e-3 && token > 2e-2
            };
            let better = (1..200).find(|seed| clear(*seed));
            assert!(clear(spec.seed), "{}: a decision hangs by a hair; it would not with seed {better:?}", spec.name);
        }
    }
}
