//! Small models of every kind, drawn from a seed: on a device against the CPU's plain loops, and against golden numbers,
//! which `tests/golden/make_lab.py` computes in float64 and which share nothing with this code.

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use taipan::{GenerateOptions, LoadOptions, ModelFiles, Sampling, SessionOptions};

/// What logits of a GPU may be off by, as `|a − b| / (1 + |b|)`.
const LOGITS: f64 = 2e-3;

/// Tokens of a prompt.
const PROMPT: usize = 70;
/// Tokens made after it.
pub const MADE: usize = 12;

const BURST: f64 = 2.0;

/// A small model of random weights.
pub struct Spec {
    /// What is special about it.
    pub name: &'static str,
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
pub const MODELS: [Spec; 5] = [
    Spec { name: "grouped_kv", layers: "ms", kv_heads: 1, seed: 2, ..BASE },
    Spec { name: "rotary", layers: "msm", rope: Some(10_000.0), seed: 3, ..BASE },
    Spec { name: "untied_groups2", layers: "mms", groups: 2, tied: false, seed: 1, ..BASE },
    Spec { name: "bounded", layers: "msms", bound: Some(0.15), seed: 3, ..BASE },
    Spec { name: "pure_mamba2", layers: "mm", seed: 2, ..BASE },
];

/// How a model went; the same fields as a kernel's.
#[derive(Debug, Serialize)]
pub(crate) struct ModelReport {
    kernel: &'static str,
    shape: String,
    seed: u64,
    worst: f64,
    tolerance: f64,
    pub(crate) ok: bool,
    detail: Option<String>,
}

impl ModelReport {
    /// What is wrong, in words.
    pub(crate) fn complaint(&self) -> Option<String> {
        let detail = self.detail.as_deref()?;
        Some(format!("{} ({}), seed {}: {detail}", self.kernel, self.shape, self.seed))
    }
}

/// What a model computes of a prompt.
pub(crate) struct Outcome {
    logits: Vec<f32>,
    gates: taipan::GateTrace,
    greedy: Vec<u32>,
    decoded: Vec<f32>,
}

impl Spec {
    /// Its config.json; nothing is left to a default.
    #[must_use]
    pub fn config(&self) -> String {
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

    /// The checkpoint.
    ///
    /// # Errors
    /// None, if [`Spec::config`] is right.
    pub fn files(&self) -> taipan::Result<ModelFiles> {
        ModelFiles::random(&self.config(), self.seed)
    }

    /// Share and burst of its hard bound.
    #[must_use]
    pub fn bound(&self) -> Option<(f64, f64)> {
        self.bound.map(|share| (share, BURST))
    }

    async fn open(&self, device: &taipan::Device) -> taipan::Result<taipan::Session> {
        let model = taipan::Model::from_bytes(self.files()?, device, LoadOptions::default()).await?;
        let attention_bound =
            self.bound().map(|(share, burst)| taipan::AttentionBound::new(share, burst)).transpose()?;
        model.session(SessionOptions { attention_bound, ..SessionOptions::default() })
    }
}

/// The prompt of all models.
#[must_use]
pub fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|i| i * 37 % VOCAB as u32).collect()
}

pub(crate) async fn compute(device: &taipan::Device, spec: &Spec) -> taipan::Result<Outcome> {
    let mut session = spec.open(device).await?;
    let mut logits = Vec::new();
    let keep = |rows: taipan::Rows<'_>| {
        logits.extend_from_slice(rows.logits);
        Ok(())
    };
    session.prefill_rows(&prompt(), keep).await?;
    let gates = session.gates().clone();
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let options = GenerateOptions { max_tokens: Some(MADE), sampling, ignore_eos: true, ..GenerateOptions::default() };
    let mut greedy = Vec::new();
    {
        let mut tokens = std::pin::pin!(session.generate(options));
        while let Some(token) = tokens.next().await {
            greedy.push(token?.id);
        }
    }
    // Always of the same tokens, so that a tie in the greedy ones says nothing about the logits.
    let mut again = session.fork().await?;
    let decoded = again.decode(5).await?;
    Ok(Outcome { logits, gates, greedy, decoded })
}

impl Spec {
    /// Two outcomes compared: rows of logits that both have, decisions, the greedy text.
    fn report(&self, kernel: &'static str, distances: &[f64], gates: bool, greedy: (&[u32], &[u32])) -> ModelReport {
        let worst = distances.iter().copied().fold(0.0, f64::max);
        let other = greedy.0.iter().zip(greedy.1).position(|(a, b)| a != b);
        let detail = if !gates {
            Some("other tokens attend".to_owned())
        } else if let Some(at) = other.or((greedy.0.len() != greedy.1.len()).then_some(greedy.0.len())) {
            Some(format!("greedy token {at} is another one"))
        } else {
            (worst > LOGITS).then(|| "numbers differ".to_owned())
        };
        let shape = format!("{}, {PROMPT} tokens", self.name);
        ModelReport { kernel, shape, seed: self.seed, worst, tolerance: LOGITS, ok: detail.is_none(), detail }
    }

    /// What a device found, against the CPU.
    pub(crate) async fn against_cpu(&self, found: &Outcome) -> taipan::Result<ModelReport> {
        let expected = compute(&taipan::Device::cpu(), self).await?;
        let gates = found.gates.mask == expected.gates.mask;
        let mut distances = vec![distance(&found.logits, &expected.logits)];
        if gates && found.greedy == expected.greedy {
            distances.push(distance(&found.decoded, &expected.decoded));
        }
        Ok(self.report("model", &distances, gates, (&found.greedy, &expected.greedy)))
    }

    /// What a device found, against the golden numbers.
    pub(crate) fn against_golden(&self, found: &Outcome) -> ModelReport {
        let golden: Vec<Golden> = serde_json::from_str(include_str!("golden.json")).unwrap_or_default();
        let Some(golden) = golden.iter().find(|golden| golden.name == self.name) else {
            return self.report("golden", &[f64::MAX], false, (&[], &[]));
        };
        let row = |at: usize| found.logits.get(at * VOCAB..(at + 1) * VOCAB).unwrap_or_default();
        let mut distances: Vec<f64> = golden.logits.iter().map(|(at, logits)| distance(row(*at), logits)).collect();
        if !golden.alpha.is_empty() {
            distances.push(distance(&found.gates.alpha.concat(), &golden.alpha.concat()));
        }
        self.report("golden", &distances, found.gates.mask == golden.mask, (&found.greedy, &golden.greedy))
    }
}

/// What another implementation makes of a model: some rows of logits, and all decisions.
#[derive(Deserialize)]
struct Golden {
    name: String,
    logits: Vec<(usize, Vec<f32>)>,
    alpha: Vec<Vec<f32>>,
    mask: Vec<Vec<u8>>,
    greedy: Vec<u32>,
}

const VOCAB: usize = 96;

/// Largest `|a − b| / (1 + |b|)`; huge where something cannot be compared, because JSON has no infinity.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() || found.is_empty() {
        return f64::MAX;
    }
    let one = |(a, b): (&f32, &f32)| {
        let e = f64::from((a - b).abs()) / (1.0 + f64::from(b.abs()));
        if e.is_finite() { e } else { f64::MAX }
    };
    found.iter().zip(expected).map(one).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compared_is_far_apart() {
        assert_eq!(distance(&[1.0, 3.0], &[1.0, 1.0]), 1.0);
        for (a, b) in [(&[][..], &[][..]), (&[1.0][..], &[1.0, 2.0][..]), (&[f32::NAN][..], &[1.0][..])] {
            assert_eq!(distance(a, b), f64::MAX);
        }
    }

    #[test]
    fn the_cpu_computes_the_golden_numbers_and_others_are_noticed() {
        for spec in MODELS {
            let mut found = pollster::block_on(compute(&taipan::Device::cpu(), &spec)).unwrap();
            let report = spec.against_golden(&found);
            assert!(report.ok && report.worst > 0.0 && report.worst < 1e-4, "{report:?}");
            for row in [0, PROMPT - 1] {
                found.logits[row * VOCAB] += 0.1;
                assert!(!spec.against_golden(&found).ok, "{}: row {row}", spec.name);
                found.logits[row * VOCAB] -= 0.1;
            }
            *found.greedy.last_mut().unwrap() ^= 1;
            assert!(!spec.against_golden(&found).ok, "{}: the last token", spec.name);
            *found.greedy.last_mut().unwrap() ^= 1;
            if let Some(layer) = found.gates.mask.last_mut() {
                layer[PROMPT - 1] ^= 1;
                assert!(!spec.against_golden(&found).ok, "{}: the last decision", spec.name);
            }
        }
        let unknown = Spec { name: "unknown", ..BASE };
        let found = pollster::block_on(compute(&taipan::Device::cpu(), &MODELS[0])).unwrap();
        assert!(!unknown.against_golden(&found).ok);
    }

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
