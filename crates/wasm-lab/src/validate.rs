//! Every kernel, small models of every kind and golden cases, on a device against the CPU's plain loops; golden cases against
//! their numbers as well.

use js_sys::Array;
use taipan_cases::{Case, Report};
use taipan_wasm::{Device, Result, to_js, to_js_error};
use wasm_bindgen::prelude::*;

use crate::golden::GoldenCase;
use crate::models::MODELS;

/// Inputs are the same everywhere, so that a failure can be looked into.
const SEED: u64 = 1;

/// The cases, one at a time, so that the caller can show how far it is and stop.
#[wasm_bindgen]
pub struct Validation {
    cases: Vec<Case>,
    reports: Vec<Report>,
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
        Self { cases: taipan_cases::all(SEED), reports: Vec::new(), wrong: Vec::new() }
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
        let report = model.run(device.inner()).await.map_err(fail)?;
        self.wrong.extend(report.complaint());
        to_js(&report)
    }

    /// Runs a golden case, given by its files: two reports for each of its prompts, one against the golden numbers, one
    /// against the CPU.
    ///
    /// # Errors
    /// Files that are damaged or do not fit each other; device errors.
    #[wasm_bindgen(unchecked_return_type = "CaseReport[]")]
    pub async fn golden(
        &mut self,
        device: &Device,
        name: String,
        config: Vec<u8>,
        weights: Vec<u8>,
        case: String,
        numbers: Vec<u8>,
    ) -> Result<JsValue> {
        let case = GoldenCase::read(name, config, weights, &case, numbers)?;
        let reports = case.run(device.inner()).await.map_err(|e| to_js_error(&e))?;
        self.wrong.extend(reports.iter().filter_map(crate::outcome::ModelReport::complaint));
        to_js(&reports)
    }

    /// What is wrong with the cases run so far, each once; a kernel without a case included.
    #[must_use]
    pub fn complaints(&self) -> Array {
        taipan_cases::complaints(&self.reports).iter().chain(&self.wrong).map(|c| JsValue::from_str(c)).collect()
    }
}
