//! An open model.

use std::ops::Range;
use std::sync::Mutex;

use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use serde::Serialize;
use taipan::{FileStart, Headers, LoadOptions, RangedWeights, SessionOptions, TextDecoder, WeightDtype};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::cancel::Cancel;
use crate::convert::{from_js, invalid, to_js, to_js_error};
use crate::device::Device;
use crate::options::SessionSettings;
use crate::session::Session;
use crate::{Result, tools};

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
        let headers = files.headers()?;
        let ask = |file: &str, range: Range<u64>| answer(read.clone(), file.to_owned(), range);
        let weights = RangedWeights::new(headers, ask);
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

/// How matrices are stored, by the names that the command line has.
pub(crate) fn dtype_of(name: &str) -> Result<WeightDtype> {
    match name {
        "auto" => Ok(WeightDtype::Auto),
        "f32" => Ok(WeightDtype::F32),
        "f16" => Ok(WeightDtype::F16),
        "bf16" => Ok(WeightDtype::Bf16),
        "q8" => Ok(WeightDtype::Q8),
        "q4" => Ok(WeightDtype::Q4),
        other => Err(invalid(&format!("dtype `{other}`: auto, f32, f16, bf16, q8 or q4"))),
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

/// Asks for bytes of a file.
async fn answer(read: Function, file: String, range: Range<u64>) -> taipan::Result<Vec<u8>> {
    let (start, end) = ((range.start as f64).into(), (range.end as f64).into());
    let ask = async {
        let promise: Promise = read.call3(&JsValue::UNDEFINED, &file.as_str().into(), &start, &end)?.dyn_into()?;
        JsFuture::from(promise).await?.dyn_into::<Uint8Array>()
    };
    ask.await.map(|bytes| bytes.to_vec()).map_err(|error| {
        let message = error.dyn_ref::<js_sys::Error>().map(|e| String::from(e.message())).unwrap_or_default();
        taipan::Error::Io { action: "read", path: file.into(), source: std::io::Error::other(message) }
    })
}

/// What a model is made of, as far as it is in memory.
pub(crate) struct Files {
    pub(crate) config: Vec<u8>,
    tokenizer: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    /// Name, beginning, length.
    weights: Vec<(String, Vec<u8>, u64)>,
}

impl Files {
    pub(crate) fn of(files: &Object) -> Result<Self> {
        let get = |object: &JsValue, key: &str| Reflect::get(object, &key.into());
        let bytes = |object: &JsValue, key: &str| -> Result<Option<Vec<u8>>> {
            Ok(get(object, key)?.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec))
        };
        let mut weights = Vec::new();
        for file in Array::from(&get(files, "weights")?).iter() {
            let name = get(&file, "name")?.as_string().unwrap_or_default();
            let start = bytes(&file, "start")?.ok_or_else(|| invalid("a weight file has no beginning"))?;
            weights.push((name, start, get(&file, "size")?.as_f64().unwrap_or(0.0) as u64));
        }
        let config = bytes(files, "config")?.ok_or_else(|| invalid("there is no file config.json"))?;
        Ok(Self { config, tokenizer: bytes(files, "tokenizer")?, index: bytes(files, "index")?, weights })
    }

    pub(crate) fn headers(&self) -> Result<Headers> {
        let starts = self.weights.iter().map(|(name, bytes, len)| FileStart { name, bytes, len: *len });
        Headers::parse(&starts.collect::<Vec<_>>(), self.index.as_deref()).map_err(|e| tools::fail(&e))
    }
}
