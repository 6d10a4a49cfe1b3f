//! Plain data and errors, from Rust to JavaScript and back.

use js_sys::{JSON, Reflect};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue};

use crate::Result;

/// Plain data as a JavaScript object. JSON is smaller than a serialiser of its own, and nothing large passes here.
///
/// # Errors
/// Data that JSON cannot hold.
pub fn to_js<T: Serialize + ?Sized>(value: &T) -> Result<JsValue> {
    let text = serde_json::to_string(value).map_err(|e| error("internal", &e.to_string(), None))?;
    JSON::parse(&text)
}

/// Options from a JavaScript object; nothing given is no option given.
///
/// # Errors
/// `invalid-option`.
pub fn from_js<T: DeserializeOwned + Default>(value: &JsValue) -> Result<T> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    let text = JSON::stringify(value).ok().and_then(|text| text.dyn_into::<js_sys::JsString>().ok());
    let text = text.map(String::from).ok_or_else(|| invalid("the options are not plain data"))?;
    serde_json::from_str(&text).map_err(|e| invalid(&format!("options: {e}")))
}

/// An error of the library.
#[must_use]
pub fn to_js_error(e: &taipan::Error) -> JsValue {
    error(e.code(), &e.to_string(), e.hint())
}

/// Something given to this module that it cannot use.
#[must_use]
pub fn invalid(message: &str) -> JsValue {
    error("invalid-option", message, None)
}

fn error(code: &str, message: &str, hint: Option<String>) -> JsValue {
    let error = js_sys::Error::new(message);
    // Setting a property of an object made here cannot fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    if let Some(hint) = hint {
        let _ = Reflect::set(&error, &"hint".into(), &hint.into());
    }
    error.into()
}
