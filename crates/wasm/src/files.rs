//! A model's files as JavaScript has them: small ones whole, weights in ranges.

use std::ops::Range;

use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use taipan::{FileStart, Headers, RangedWeights, WeightDtype, WeightSource};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::Result;
use crate::convert::{invalid, to_js_error};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** A model's files: small ones whole, weight files by their beginnings, up to the end of the header at least. */
export interface ModelFiles {
    config: Uint8Array;
    tokenizer?: Uint8Array | undefined;
    index?: Uint8Array | undefined;
    weights: { name: string; start: Uint8Array; size: number }[];
}
"#;

/// How matrices are stored, by the names that the command line has.
///
/// # Errors
/// `invalid-option`.
pub fn dtype_of(name: &str) -> Result<WeightDtype> {
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
pub struct Files {
    /// config.json.
    pub config: Vec<u8>,
    /// tokenizer.json.
    pub tokenizer: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    /// Name, beginning, length.
    weights: Vec<(String, Vec<u8>, u64)>,
}

impl Files {
    /// From the object that JavaScript has, a `ModelFiles`.
    ///
    /// # Errors
    /// `invalid-option`.
    pub fn of(files: &Object) -> Result<Self> {
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

    /// The headers of all weight files.
    ///
    /// # Errors
    /// Files that are damaged or do not fit each other.
    pub fn headers(&self) -> Result<Headers> {
        let starts = self.weights.iter().map(|(name, bytes, len)| FileStart { name, bytes, len: *len });
        Headers::parse(&starts.collect::<Vec<_>>(), self.index.as_deref()).map_err(|e| to_js_error(&e))
    }

    /// The weights, asked of `read` by the file's name and a range of its bytes.
    ///
    /// # Errors
    /// As [`Files::headers`].
    pub fn weights(&self, read: &Function) -> Result<impl WeightSource> {
        let read = read.clone();
        Ok(RangedWeights::new(self.headers()?, move |file: &str, range: Range<u64>| {
            answer(read.clone(), file.to_owned(), range)
        }))
    }
}
