//! An open model.

use std::sync::Mutex;

use js_sys::{Function, Object, Promise};
use serde::Serialize;
use taipan::{LoadOptions, SessionOptions, TextDecoder};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::cancel::Cancel;
use crate::convert::{from_js, invalid, to_js, to_js_error};
use crate::device::Device;
use crate::files::{Files, dtype_of};
use crate::options::SessionSettings;
use crate::session::Session;

/// An open model; its sessions share its weights.
#[wasm_bindgen]
pub struct Model(pub(crate) taipan::Model);

#[derive(Serialize)]
struct Piece {
    id: u32,
    text: String,
}

#[wasm_bindgen]
impl Model {
    /// Opens a model. Of each weight file the beginning is given; whatever else is needed is asked of `read`, by the
    /// file's name and a range of its bytes, a few megabytes at a time. `onProgress` gets weights loaded and all weights.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit each other or the device. An error of `read` comes as `io`.
    pub async fn load(
        device: &Device,
        #[wasm_bindgen(unchecked_param_type = "ModelFiles")] files: Object,
        dtype: String,
        #[wasm_bindgen(unchecked_param_type = "(file: string, start: number, end: number) => Promise<Uint8Array>")]
        read: Function,
        #[wasm_bindgen(js_name = onProgress, unchecked_param_type = "(done: number, total: number) => void")]
        on_progress: Function,
        cancel: Option<Promise>,
    ) -> Result<Model> {
        let files = Files::of(&files)?;
        let weights = files.weights(&read)?;
        let progress = Progress(Mutex::new(on_progress));
        let options = LoadOptions {
            dtype: dtype_of(&dtype)?,
            progress: Some(Box::new(move |done, total| progress.tell(done, total))),
            ..LoadOptions::default()
        };
        let tokenizer = files.tokenizer.as_deref();
        let loading = taipan::Model::from_source(&files.config, tokenizer, &weights, device.inner(), options);
        match Cancel::new(cancel).or(loading).await {
            Some(model) => Ok(Model(model.map_err(|e| to_js_error(&e))?)),
            None => Err(invalid("given up")),
        }
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

    /// The tokens of a text, each with its own text.
    ///
    /// # Errors
    /// `no-tokenizer` or `tokenizer`.
    #[wasm_bindgen(unchecked_return_type = "Piece[]")]
    pub fn tokenize(&self, text: &str) -> Result<JsValue> {
        let fail = |e: taipan::Error| to_js_error(&e);
        let ids = self.0.encode(text).map_err(fail)?;
        let tokenizer = self.0.tokenizer().ok_or_else(|| fail(taipan::Error::NoTokenizer))?;
        let mut decoder = TextDecoder::default();
        let pieces = ids.iter().map(|id| Ok(Piece { id: *id, text: decoder.push(tokenizer, *id)? }));
        let mut pieces = pieces.collect::<taipan::Result<Vec<_>>>().map_err(fail)?;
        if let Some(last) = pieces.last_mut() {
            last.text += &decoder.finish(tokenizer).map_err(fail)?;
        }
        to_js(&pieces)
    }

    /// A new session: one text, with nothing in it yet.
    ///
    /// # Errors
    /// `invalid-option`; the device cannot hold another session's state.
    pub fn session(
        &self,
        #[wasm_bindgen(unchecked_param_type = "SessionSettings | undefined")] settings: JsValue,
    ) -> Result<Session> {
        let settings: SessionSettings = from_js(&settings)?;
        let attention_bound = settings.bound().map_err(|e| to_js_error(&e))?;
        let session = self.0.session(SessionOptions { attention_bound, ..SessionOptions::default() });
        Ok(Session::new(session.map_err(|e| to_js_error(&e))?))
    }
}

/// The library wants something that may go to another thread; here there is one.
struct Progress(Mutex<Function>);

impl Progress {
    fn tell(&self, done: u64, total: u64) {
        if let Ok(function) = self.0.lock() {
            let _ = function.call2(&JsValue::UNDEFINED, &(done as f64).into(), &(total as f64).into());
        }
    }
}
