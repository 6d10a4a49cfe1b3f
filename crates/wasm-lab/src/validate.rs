//! Every kernel, and small models of every kind, on a device against the CPU's plain loops.

use futures::StreamExt;
use js_sys::Array;
use serde::Serialize;
use taipan::{GenerateOptions, LoadOptions, ModelFiles, Sampling, SessionOptions};
use taipan_cases::{Case, Report};
use taipan_wasm::{Device, Result, to_js, to_js_error};
use wasm_bindgen::prelude::*;

/// Inputs are the same everywhere, so that a failure can be looked into.
const SEED: u64 = 1;

/// What logits of a GPU may be off by, as `|a − b| / (1 + |b|)`.
const LOGITS: f64 = 2e-3;

/// Tokens of a model's prompt, and tokens made after it.
const PROMPT: usize = 70;
const MADE: usize = 12;

/// A small model of random weights.
struct Spec {
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

const BASE: Spec =
    Spec { name: "", layers: "", groups: 1, kv_heads: 2, rope: None, tied: true, bound: None, seed: SEED };

const MODELS: [Spec; 5] = [
    Spec { name: "grouped_kv", layers: "ms", kv_heads: 1, seed: 2, ..BASE },
    Spec { name: "rotary", layers: "msm", rope: Some(10_000.0), seed: 3, ..BASE },
    Spec { name: "untied_groups2", layers: "mms", groups: 2, tied: false, seed: 1, ..BASE },
    Spec { name: "bounded", layers: "msms", bound: Some(0.15), seed: 3, ..BASE },
    Spec { name: "pure_mamba2", layers: "mm", seed: 2, ..BASE },
];

/// The cases, one at a time, so that the caller can show how far it is and stop.
#[wasm_bindgen]
pub struct Validation {
    cases: Vec<Case>,
    reports: Vec<Report>,
}

#[wasm_bindgen]
impl Validation {
    /// All cases, none of them run.
    #[must_use]
    #[wasm_bindgen(constructor)]
    #[expect(clippy::new_without_default, reason = "JavaScript knows constructors, not traits")]
    pub fn new() -> Self {
        Self { cases: taipan_cases::all(SEED), reports: Vec::new() }
    }

    /// How many there are: kernel cases, then models.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.cases.len() + MODELS.len()
    }

    /// Runs one.
    ///
    /// # Errors
    /// Device errors.
    #[wasm_bindgen(unchecked_return_type = "CaseReport")]
    pub async fn run(&mut self, device: &Device, index: usize) -> Result<JsValue> {
        let fail = |e: taipan::Error| to_js_error(&e);
        if let Some(case) = self.cases.get(index) {
            let report = taipan_cases::run(case, device.inner()).await.map_err(fail)?;
            let js = to_js(&report);
            self.reports.push(report);
            return js;
        }
        let model = MODELS.get(index - self.cases.len()).ok_or_else(|| JsValue::from_str("there is no such case"))?;
        to_js(&run_model(device.inner(), model).await.map_err(fail)?)
    }

    /// What is wrong with the kernel cases run so far, a kernel without a case included.
    #[must_use]
    pub fn complaints(&self) -> Array {
        taipan_cases::complaints(&self.reports).iter().map(|c| JsValue::from_str(c)).collect()
    }
}

/// How a model went; the same fields as a kernel's.
#[derive(Serialize)]
struct ModelReport {
    kernel: &'static str,
    shape: String,
    seed: u64,
    worst: f64,
    tolerance: f64,
    ok: bool,
    detail: Option<String>,
}

/// What a model computes of a prompt.
struct Outcome {
    logits: Vec<f32>,
    gates: taipan::GateTrace,
    greedy: Vec<u32>,
    decoded: Vec<f32>,
}

impl Spec {
    fn config(&self) -> String {
        let kind = |letter| if letter == 'm' { "mamba2" } else { "selective_attention" };
        let layers: Vec<&str> = self.layers.chars().map(kind).collect();
        serde_json::json!({
            "model_type": "taipan", "vocab_size": 96, "hidden_size": 64, "layer_types": layers,
            "tie_word_embeddings": self.tied,
            "mamba2": { "d_state": 16, "d_conv": 4, "expand": 2, "head_dim": 16, "n_groups": self.groups },
            "selective_attention": {
                "num_heads": 2, "num_key_value_heads": self.kv_heads, "head_dim": 32, "window": 24,
                "intermediate_size": 192, "rope_theta": self.rope,
            },
        })
        .to_string()
    }

    async fn open(&self, device: &taipan::Device) -> taipan::Result<taipan::Session> {
        let files = ModelFiles::random(&self.config(), self.seed)?;
        let model = taipan::Model::from_bytes(files, device, LoadOptions::default()).await?;
        let attention_bound = self.bound.map(|c| taipan::AttentionBound::new(c, 2.0)).transpose()?;
        model.session(SessionOptions { attention_bound, ..SessionOptions::default() })
    }
}

/// The prompt of all models.
fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|i| i * 37 % 96).collect()
}

async fn compute(device: &taipan::Device, spec: &Spec) -> taipan::Result<Outcome> {
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

async fn run_model(device: &taipan::Device, spec: &Spec) -> taipan::Result<ModelReport> {
    let found = compute(device, spec).await?;
    let expected = compute(&taipan::Device::cpu(), spec).await?;
    let mut worst = distance(&found.logits, &expected.logits);
    let mut detail = None;
    if found.gates.mask != expected.gates.mask {
        detail = Some("other tokens attend".to_owned());
    } else if found.greedy != expected.greedy {
        let at = found.greedy.iter().zip(&expected.greedy).position(|(a, b)| a != b);
        detail = Some(format!("greedy token {at:?} is another one"));
    } else {
        worst = worst.max(distance(&found.decoded, &expected.decoded));
    }
    if detail.is_none() && worst > LOGITS {
        detail = Some("logits differ".to_owned());
    }
    let ok = detail.is_none();
    let shape = format!("{}, {PROMPT} tokens", spec.name);
    Ok(ModelReport { kernel: "model", shape, seed: spec.seed, worst, tolerance: LOGITS, ok, detail })
}

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
