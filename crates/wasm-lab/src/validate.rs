//! Every kernel, and small models of every kind, on a device against the CPU's plain loops; the models against golden
//! numbers as well.

use js_sys::Array;
use taipan_cases::{Case, Report};
use taipan_wasm::{Device, Result, to_js, to_js_error};
use wasm_bindgen::prelude::*;

use crate::models::{MODELS, Outcome, compute};

/// Inputs are the same everywhere, so that a failure can be looked into.
const SEED: u64 = 1;

/// The cases, one at a time, so that the caller can show how far it is and stop.
#[wasm_bindgen]
pub struct Validation {
    cases: Vec<Case>,
    reports: Vec<Report>,
    /// What the device made of the model that was run last.
    found: Option<(usize, Outcome)>,
    /// Models that are wrong, in words.
    wrong: Vec<String>,
}

#[wasm_bindgen]
impl Validation {
    /// All cases, none of them run.
    #[must_use]
    #[wasm_bindgen(constructor)]
    #[expect(clippy::new_without_default, reason = "JavaScript knows constructors, not traits")]
    pub fn new() -> Self {
        Self { cases: taipan_cases::all(SEED), reports: Vec::new(), found: None, wrong: Vec::new() }
    }

    /// How many there are: kernel cases, then two for each model.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.cases.len() + 2 * MODELS.len()
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
        let index = index - self.cases.len();
        let model = MODELS.get(index / 2).ok_or_else(|| JsValue::from_str("there is no such case"))?;
        let found = match self.found.take() {
            Some((which, found)) if which == index / 2 => found,
            _ => compute(device.inner(), model).await.map_err(fail)?,
        };
        let report = match index % 2 {
            0 => model.against_cpu(&found).await.map_err(fail)?,
            _ => model.against_golden(&found),
        };
        self.found = Some((index / 2, found));
        self.wrong.extend(report.complaint());
        to_js(&report)
    }

    /// What is wrong with the cases run so far, each once; a kernel without a case included.
    #[must_use]
    pub fn complaints(&self) -> Array {
        taipan_cases::complaints(&self.reports).iter().chain(&self.wrong).map(|c| JsValue::from_str(c)).collect()
    }
}
