//! What a browser knows about its adapter and wgpu does not pass on.

use std::cell::Cell;

use js_sys::{Array, Function, Object, Promise, Proxy, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
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

/// The browser's name for operations within a subgroup.
pub(crate) const SUBGROUPS: &str = "subgroups";

/// Whether a device has a feature that wgpu knows nothing of.
pub(crate) fn has_feature(device: &wgpu::Device, feature: &str) -> bool {
    device.as_webgpu().is_some_and(|device| has(device.as_ref(), feature).unwrap_or(false))
}

/// `object.features.has(feature)`.
fn has(object: &JsValue, feature: &str) -> Result<bool, JsValue> {
    let features = get(object, "features")?;
    Ok(get(&features, "has")?.dyn_into::<Function>()?.call1(&features, &feature.into())?.is_truthy())
}

/// Makes a request for a device, to which a feature is added where the adapter has it. The request must call the browser
/// before it returns; wgpu's does. What cannot be done here leaves the request as it is.
pub(crate) fn unlocked<T>(feature: &'static str, request: impl FnOnce() -> T) -> T {
    let apply = Closure::<dyn Fn(Function, JsValue, Array) -> Result<JsValue, JsValue>>::new(
        move |original: Function, adapter: JsValue, arguments: Array| {
            if let Ok(true) = has(&adapter, feature) {
                let _ = add_feature(&arguments.get(0), feature);
            }
            original.apply(&adapter, &arguments)
        },
    );
    let restore = replace_request(apply.as_ref());
    let requested = request();
    if let Ok((prototype, original)) = restore {
        let _ = Reflect::set(&prototype, &REQUEST.into(), &original);
    }
    requested
}

const REQUEST: &str = "requestDevice";

/// Puts something between callers and `GPUAdapter.prototype.requestDevice`.
fn replace_request(apply: &JsValue) -> Result<(JsValue, JsValue), JsValue> {
    let prototype = get(&get(&js_sys::global(), "GPUAdapter")?, "prototype")?;
    let original = get(&prototype, REQUEST)?;
    let handler = Object::new();
    Reflect::set(&handler, &"apply".into(), apply)?;
    Reflect::set(&prototype, &REQUEST.into(), &Proxy::new(&original, &handler))?;
    Ok((prototype, original))
}

fn add_feature(descriptor: &JsValue, feature: &str) -> Result<(), JsValue> {
    let known = get(descriptor, "requiredFeatures")?;
    let features = if known.is_undefined() { Array::new() } else { Array::from(&known) };
    features.push(&feature.into());
    Reflect::set(descriptor, &"requiredFeatures".into(), &features).map(drop)
}
