//! The library as JavaScript sees it: types in and out, and nothing else. Adapters, devices, a model from the bytes of
//! its files, and sessions that generate text token by token.
//!
//! Everything here runs on the thread that calls it and never waits: what takes time is a promise. Two things need care
//! on the other side. A panic (a bug of ours, or of a driver's) ends the program inside, so the promises under way would
//! stay pending for ever: [`on_panic`] tells the caller, which must then settle them and use nothing of this module
//! again. And a session does one thing at a time: a call while another is under way throws.

mod convert;
mod options;
mod panic;
mod session;

use std::borrow::Cow;

use js_sys::{Object, Uint8Array};
use taipan::{Backends, GpuRequest, LoadOptions, ModelFiles, SessionOptions};
use wasm_bindgen::prelude::*;

pub use panic::on_panic;
pub use session::Session;

use convert::{invalid, to_js, to_js_error};

/// What a call throws or its promise is rejected with: an `Error` with `code` and, where there is one, `hint`.
type Result<T, E = JsValue> = std::result::Result<T, E>;

#[wasm_bindgen(start)]
fn start() {
    panic::install();
}

/// The adapters that the browser offers: one or none.
///
/// # Errors
/// None; a browser without WebGPU has no adapters.
#[wasm_bindgen(js_name = listAdapters, unchecked_return_type = "Adapter[]")]
pub async fn list_adapters() -> Result<JsValue> {
    // wgpu takes the presence of the interface for granted.
    let adapters = if has_webgpu() { taipan::list_adapters(Backends::BROWSER_WEBGPU).await } else { Vec::new() };
    to_js(&adapters)
}

/// Whether the browser has WebGPU here at all; an insecure page has not.
fn has_webgpu() -> bool {
    let get = |object: &JsValue, key: &str| js_sys::Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED);
    let navigator = get(&js_sys::global(), "navigator");
    navigator.is_object() && get(&navigator, "gpu").is_object()
}

/// Where a model runs.
#[wasm_bindgen]
pub struct Device(taipan::Device);

#[wasm_bindgen]
impl Device {
    /// The CPU, on one thread of the browser.
    #[must_use]
    pub fn cpu() -> Device {
        Device(taipan::Device::cpu())
    }

    /// The browser's WebGPU adapter.
    ///
    /// # Errors
    /// `no-adapter`, `limit-too-small`, or what the browser says.
    pub async fn gpu() -> Result<Device> {
        if !has_webgpu() {
            let (wanted, found) = ("WebGPU".to_owned(), Vec::new());
            return Err(to_js_error(&taipan::Error::NoAdapter { wanted, found }));
        }
        let request = GpuRequest { backends: Backends::BROWSER_WEBGPU, ..GpuRequest::default() };
        Ok(Device(taipan::Device::gpu(&request).await.map_err(|e| to_js_error(&e))?))
    }

    /// One line for people.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn description(&self) -> String {
        self.0.description()
    }

    /// The adapter of a GPU device.
    ///
    /// # Errors
    /// None.
    #[wasm_bindgen(getter, unchecked_return_type = "Adapter | undefined")]
    pub fn adapter(&self) -> Result<JsValue> {
        self.0.adapter().map_or(Ok(JsValue::UNDEFINED), to_js)
    }
}

/// An open model; its sessions share its weights.
#[wasm_bindgen]
pub struct Model(taipan::Model);

#[wasm_bindgen]
impl Model {
    /// Opens a model from the bytes of its files by name: `config.json`, safetensors files (with their index where they
    /// are shards) and `tokenizer.json`.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit each other or the device.
    pub async fn load(
        device: &Device,
        #[wasm_bindgen(unchecked_param_type = "Record<string, Uint8Array>")] files: Object,
    ) -> Result<Model> {
        let files = model_files(&files)?;
        let model = taipan::Model::from_bytes(files, &device.0, LoadOptions::default()).await;
        Ok(Model(model.map_err(|e| to_js_error(&e))?))
    }

    /// Hash of config and tensor headers: what a saved session must agree with.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    /// Number of parameters.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn parameters(&self) -> f64 {
        self.0.config().parameters() as f64
    }

    /// A new session: one text, with nothing in it yet.
    ///
    /// # Errors
    /// The device cannot hold another session's state.
    pub fn session(&self) -> Result<Session> {
        Ok(Session::new(self.0.session(SessionOptions::default()).map_err(|e| to_js_error(&e))?))
    }
}

fn model_files(files: &Object) -> Result<ModelFiles> {
    let (mut config, mut tokenizer, mut weights) = (None, None, Vec::new());
    for entry in Object::entries(files).iter() {
        let entry = js_sys::Array::from(&entry);
        let name = entry.get(0).as_string().ok_or_else(|| invalid("a file's name is not a string"))?;
        let bytes: Uint8Array =
            entry.get(1).dyn_into().map_err(|_| invalid(&format!("file {name} is not a Uint8Array")))?;
        let bytes = Cow::Owned(bytes.to_vec());
        match name.as_str() {
            "config.json" => config = Some(bytes),
            "tokenizer.json" => tokenizer = Some(bytes),
            _ => weights.push((name, bytes)),
        }
    }
    let config = config.ok_or_else(|| invalid("there is no file config.json"))?;
    Ok(ModelFiles { config, weights, tokenizer })
}
