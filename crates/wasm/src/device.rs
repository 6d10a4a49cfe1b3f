//! Adapters and devices.

use taipan::{Backends, GpuRequest};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::convert::{to_js, to_js_error};

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

impl Device {
    /// The library's own.
    #[must_use]
    pub fn inner(&self) -> &taipan::Device {
        &self.0
    }
}

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

    /// Bytes of all buffers that are on the GPU now.
    #[must_use]
    #[wasm_bindgen(getter, js_name = heldBytes)]
    pub fn held_bytes(&self) -> f64 {
        self.0.as_gpu().map_or(0.0, |gpu| gpu.allocated() as f64)
    }

    /// Resolves to the reason when a GPU device is lost. Never, if it is let go of.
    pub fn lost(&self) -> js_sys::Promise {
        let lost = self.0.as_gpu().map(|gpu| gpu.lost());
        wasm_bindgen_futures::future_to_promise(async move {
            match lost {
                Some(lost) => Ok(lost.await.into()),
                None => std::future::pending().await,
            }
        })
    }

    /// Gives a GPU device back to the browser: whatever is still on it fails from here on.
    pub fn destroy(&self) {
        if let Some(gpu) = self.0.as_gpu() {
            gpu.destroy();
        }
    }
}
