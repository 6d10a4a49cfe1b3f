//! What a browser knows about its adapter and wgpu does not pass on.

use std::cell::Cell;

use js_sys::{Array, Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Milliseconds after which the event loop gets its turn.
const TURN: f64 = 8.0;

thread_local! {
    static LAST_TURN: Cell<f64> = const { Cell::new(0.0) };
}

/// Lets the browser handle input and messages, unless it could a moment ago: work that merely yields goes on before they
/// do.
pub(crate) async fn turn() {
    let now = js_sys::Date::now();
    if now - LAST_TURN.get() < TURN {
        return;
    }
    let _ = message().await;
    LAST_TURN.set(js_sys::Date::now());
}

/// Waits for a message to oneself: unlike a timer's, its turn comes without delay.
async fn message() -> Result<(), JsValue> {
    let class: Function = get(&js_sys::global(), "MessageChannel")?.dyn_into()?;
    let channel = Reflect::construct(&class, &Array::new())?;
    let (here, there) = (get(&channel, "port1")?, get(&channel, "port2")?);
    let received = Promise::new(&mut |resolve, _| {
        // Setting a property of an object made here cannot fail.
        let _ = Reflect::set(&here, &"onmessage".into(), &resolve);
    });
    get(&there, "postMessage")?.dyn_into::<Function>()?.call1(&there, &JsValue::NULL)?;
    JsFuture::from(received).await?;
    get(&here, "close")?.dyn_into::<Function>()?.call0(&here)?;
    Ok(())
}

fn get(object: &JsValue, key: &str) -> Result<JsValue, JsValue> {
    Reflect::get(object, &key.into())
}

/// Gives the adapter a name for people where wgpu has none: the browser's description, which it usually keeps to itself,
/// or else vendor and architecture, as in "nvidia ampere" or "google swiftshader".
pub(crate) async fn named(mut info: wgpu::AdapterInfo) -> wgpu::AdapterInfo {
    if info.name.is_empty() {
        info.name = adapter_name().await.unwrap_or_else(|| "unnamed adapter".to_owned());
    }
    info
}

async fn adapter_name() -> Option<String> {
    let info = adapter_info().await.ok()?;
    let text = |key: &str| get(&info, key).ok()?.as_string().filter(|text| !text.is_empty());
    text("description").or_else(|| {
        let parts: Vec<String> = ["vendor", "architecture", "device"].into_iter().filter_map(text).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    })
}

/// `(await navigator.gpu.requestAdapter(…)).info`; anything missing on the way is an error.
async fn adapter_info() -> Result<JsValue, JsValue> {
    let gpu = get(&get(&js_sys::global(), "navigator")?, "gpu")?;
    let request: Function = get(&gpu, "requestAdapter")?.dyn_into()?;
    let options = js_sys::Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into())?;
    let promise: Promise = request.call1(&gpu, &options)?.dyn_into()?;
    get(&JsFuture::from(promise).await?, "info")
}
