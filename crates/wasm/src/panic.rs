//! What happens when there is a bug: the other side learns of it, with words.

use std::cell::RefCell;

use js_sys::Function;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(error: &JsValue);
}

thread_local! {
    static HANDLER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Registers what is called, once, with an `Error` when this module panics. Promises of this module that are pending then
/// will never settle, and nothing of it may be called any more.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(#[wasm_bindgen(unchecked_param_type = "(error: Error) => void")] handler: Function) {
    HANDLER.set(Some(handler));
}

/// Without it a panic is nothing but an "unreachable" somewhere.
pub(crate) fn install() {
    std::panic::set_hook(Box::new(|info| {
        let error: JsValue = js_sys::Error::new(&info.to_string()).into();
        let handler = HANDLER.take();
        let told = handler.is_some_and(|handler| handler.call1(&JsValue::UNDEFINED, &error).is_ok());
        if !told {
            console_error(&error);
        }
    }));
}
