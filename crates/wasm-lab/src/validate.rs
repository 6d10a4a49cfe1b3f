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

/// Small models: grouped heads, rotary positions, two groups with an untied head, a bound, no attention at all.
const MODELS: [(&str, &str, Option<f64>); 5] = [
    ("grouped_kv", r#"{ "layers": "ms", "groups": 1, "kv": 1, "rope": null, "tied": true }"#, None),
    ("rotary", r#"{ "layers": "msm", "groups": 1, "kv": 2, "rope": 10000.0, "tied": true }"#, None),
    ("untied_groups2", r#"{ "layers": "mms", "groups": 2, "kv": 2, "rope": null, "tied": false }"#, None),
    ("bounded", r#"{ "layers": "msms", "groups": 1, "kv": 2, "rope": null, "tied": true }"#, Some(0.15)),
    ("pure_mamba2", r#"{ "layers": "mm", "groups": 1, "kv": 2, "rope": null, "tied": true }"#, None),
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
    masks: Vec<Vec<u8>>,
    greedy: Vec<u32>,
    decoded: Vec<f32>,
}

fn config(spec: &str) -> String {
    let spec: serde_json::Value = serde_json::from_str(spec).expect("a constant");
    let layers: Vec<&str> = spec["layers"].as_str().expect("a constant").chars().map(kind).collect();
    serde_json::json!({
        "model_type": "taipan", "vocab_size": 96, "hidden_size": 64, "layer_types": layers,
        "tie_word_embeddings": spec["tied"],
        "mamba2": { "d_state": 16, "d_conv": 4, "expand": 2, "head_dim": 16, "n_groups": spec["groups"] },
        "selective_attention": {
            "num_heads": 2, "num_key_value_heads": spec["kv"], "head_dim": 32, "window": 24, "intermediate_size": 192,
            "rope_theta": spec["rope"],
        },
    })
    .to_string()
}

fn kind(letter: char) -> &'static str {
    if letter == 'm' { "mamba2" } else { "selective_attention" }
}

async fn compute(device: &taipan::Device, (_, spec, budget): &(&str, &str, Option<f64>)) -> taipan::Result<Outcome> {
    let files = ModelFiles::random(&config(spec), SEED)?;
    let model = taipan::Model::from_bytes(files, device, LoadOptions::default()).await?;
    let attention_bound = budget.map(|c| taipan::AttentionBound::new(c, 2.0)).transpose()?;
    let mut session = model.session(SessionOptions { attention_bound })?;
    let ids: Vec<u32> = (0..PROMPT as u32).map(|i| i * 37 % 96).collect();
    let mut logits = Vec::new();
    let keep = |rows: taipan::Rows<'_>| {
        logits.extend_from_slice(rows.logits);
        Ok(())
    };
    session.prefill_rows(&ids, keep).await?;
    let masks = session.gates().mask.clone();
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
    Ok(Outcome { logits, masks, greedy, decoded })
}

async fn run_model(device: &taipan::Device, model: &(&'static str, &str, Option<f64>)) -> taipan::Result<ModelReport> {
    let found = compute(device, model).await?;
    let expected = compute(&taipan::Device::cpu(), model).await?;
    let mut worst = distance(&found.logits, &expected.logits);
    let mut detail = None;
    if found.masks != expected.masks {
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
    let shape = format!("{}, {PROMPT} tokens", model.0);
    Ok(ModelReport { kernel: "model", shape, seed: SEED, worst, tolerance: LOGITS, ok, detail })
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

    #[test]
    fn every_model_of_the_list_can_be_made() {
        for (name, spec, _) in MODELS {
            taipan::Config::from_json(config(spec).as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}
