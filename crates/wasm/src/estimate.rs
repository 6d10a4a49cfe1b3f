//! What a model takes, before its weights are fetched.

use js_sys::Object;
use serde::Serialize;
use taipan::{Config, Dtype, Footprint, WeightDtype};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::convert::{to_js, to_js_error};
use crate::files::{Files, dtype_of};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Estimate {
    parameters: u64,
    weight_bytes: u64,
    state_bytes: u64,
    scratch_bytes: u64,
    largest_buffer: String,
    largest_buffer_bytes: u64,
    stored_bytes: u64,
    window: usize,
    attention_layers: usize,
    attention_budget: Option<f64>,
}

/// What a model takes on a GPU with bindings of at most `limit` bytes (on the CPU without one), from its config and
/// headers alone.
///
/// # Errors
/// As loading it, but for what is in the weights.
#[wasm_bindgen(unchecked_return_type = "Footprint")]
pub fn estimate(
    #[wasm_bindgen(unchecked_param_type = "ModelFiles")] files: &Object,
    dtype: &str,
    limit: Option<f64>,
) -> Result<JsValue> {
    let files = Files::of(files)?;
    let headers = files.headers()?;
    let config = Config::from_json(&files.config).map_err(|e| to_js_error(&e))?;
    headers.check(&config).map_err(|e| to_js_error(&e))?;
    let stored = headers.get("embedding.weight").and_then(taipan::TensorInfo::dtype).map_err(|e| to_js_error(&e))?;
    let dtype = match dtype_of(dtype)? {
        WeightDtype::Auto => stored,
        WeightDtype::F32 => Dtype::F32,
        WeightDtype::F16 => Dtype::F16,
        WeightDtype::Bf16 => Dtype::BF16,
        WeightDtype::Q8 => Dtype::Q8,
        WeightDtype::Q4 => Dtype::Q4,
    };
    let f = Footprint::within(&config, limit.map(|bytes| bytes as u64), dtype);
    let sal = config.selective_attention.as_ref();
    to_js(&Estimate {
        parameters: f.parameters,
        weight_bytes: f.weight_bytes,
        state_bytes: f.state_bytes,
        scratch_bytes: f.scratch_bytes,
        largest_buffer: f.largest_buffer.0,
        largest_buffer_bytes: f.largest_buffer.1,
        stored_bytes: headers.stored_bytes(),
        window: sal.map_or(0, |s| s.window),
        attention_layers: config.count(taipan::LayerType::SelectiveAttention),
        attention_budget: sal.and_then(|s| s.attention_budget),
    })
}
