//! The native benchmark's rows, measured here.

use std::time::Duration;

use js_sys::{Date, Function};
use serde::Deserialize;
use taipan::SessionOptions;
use taipan_bench::describe::{self, Subject};
use taipan_bench::draw::{self, Storage};
use taipan_bench::measure::{Plan, row};
use taipan_bench::presets::{PRESETS, Preset};
use taipan_bench::record::{Entry, Host, Load};
use taipan_bench::work::element_bytes;
use taipan_bench::workload::{Test, repeat};
use taipan_bench::{kernels, probes, subject};
use taipan_wasm::{Device, Result, from_js, invalid, to_js, to_js_error};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What is measured, and where; everything left out is a guess or empty. */
export interface BenchSettings {
    preset?: string;
    seed?: number;
    deviceMs?: number;
    browser?: string;
    os?: string;
    cpu?: string;
}

/** A row: prompt tokens or generated ones, in a session that holds `depth` tokens. */
export interface BenchRow {
    prompt?: number;
    generate?: number;
    depth?: number;
    repetitions?: number;
    minTimeMs?: number;
    maxTimeMs?: number;
}

/** How a case went; `worst` is null where something could not be compared. */
export interface CaseReport {
    kernel: string;
    shape: string;
    seed: number;
    worst: number | null;
    tolerance: number;
    ok: boolean;
    detail: string | null;
}
"#;

/// A drawn model on a device, ready to be measured.
#[wasm_bindgen]
pub struct Bench {
    subject: Subject,
    preset: &'static Preset,
    seed: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    preset: Option<String>,
    #[serde(default)]
    seed: u64,
    /// Measured by the caller: opening the device.
    #[serde(default)]
    device_ms: f64,
    browser: Option<String>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    cpu: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    #[serde(default)]
    prompt: usize,
    #[serde(default)]
    generate: usize,
    #[serde(default)]
    depth: usize,
    repetitions: Option<usize>,
    min_time_ms: Option<u64>,
    max_time_ms: Option<u64>,
}

fn now() -> String {
    String::from(Date::new_0().to_iso_string())
}

fn fail(error: taipan::Error) -> JsValue {
    to_js_error(&error)
}

#[wasm_bindgen]
impl Bench {
    /// The names of the models there are.
    ///
    /// # Errors
    /// None.
    #[wasm_bindgen(unchecked_return_type = "string[]")]
    pub fn presets() -> Result<JsValue> {
        to_js(&PRESETS.map(|p| p.name))
    }

    /// Draws a model on a device, compares it with the CPU, and measures what the device could do at best.
    ///
    /// # Errors
    /// An unknown preset, device errors.
    pub async fn open(
        device: &Device,
        #[wasm_bindgen(unchecked_param_type = "BenchSettings")] settings: JsValue,
        #[wasm_bindgen(unchecked_param_type = "(what: string) => void")] say: Function,
    ) -> Result<Bench> {
        let settings: Settings = from_js(&settings)?;
        let say = |what: &str| drop(say.call1(&JsValue::UNDEFINED, &what.into()));
        let name = settings.preset.as_deref().unwrap_or("taipan-4.7m");
        let preset = Preset::find(name).ok_or_else(|| invalid(&format!("there is no preset `{name}`")))?;
        let (device, storage) = (device.inner(), Storage::default());
        say("drawing the model");
        let drawn = subject::drawn(preset, settings.seed, device, storage).await.map_err(fail)?;
        let clock = Date::now();
        let model = draw::model(&drawn, device, storage).await.map_err(fail)?;
        let model_ns = (Date::now() - clock) * 1e6;
        let clock = Date::now();
        model.session(SessionOptions::default()).map_err(fail)?.stats().await.map_err(fail)?;
        let session_ns = (Date::now() - clock) * 1e6;
        let first = Test { prompt: 0, generate: 1, depth: 0 };
        let cold = repeat(&model, &first, None).await.map_err(fail)?;
        say("comparing with the CPU");
        let on_cpu = async |_: &taipan::Config| draw::model(&drawn, &taipan::Device::cpu(), storage).await;
        let (quality, share) = subject::agreement(&model, on_cpu).await.map_err(fail)?;
        say("measuring what the device can do");
        let device_ns = settings.device_ms * 1e6;
        let mut info = describe::model_info(&model, &drawn.id, drawn.sha256(), Some(settings.seed));
        info.selected_share = share;
        let subject = Subject {
            element: element_bytes(model.format()),
            adapter: describe::adapter(device, &settings.cpu),
            host: Host { os: settings.os, cpu_info: settings.cpu.clone(), ram_bytes: None },
            runtime: describe::runtime("browser", settings.browser),
            probes: probes::measure(device).await.map_err(fail)?,
            load: Load { device_ns, model_ns, session_ns, total_ns: device_ns + model_ns + session_ns },
            quality,
            ttft_cold_ns: cold.first_token_ns,
            build_commit: option_env!("TAIPAN_COMMIT").unwrap_or("unknown").to_owned(),
            model,
            info,
        };
        Ok(Bench { subject, preset, seed: settings.seed })
    }

    /// Measures a row; the record that `taipan bench -o json` would write.
    ///
    /// # Errors
    /// Device errors.
    #[wasm_bindgen(unchecked_return_type = "Record<string, unknown>")]
    pub async fn row(
        &self,
        #[wasm_bindgen(unchecked_param_type = "BenchRow")] wanted: JsValue,
        #[wasm_bindgen(unchecked_param_type = "(what: string) => void")] say: Function,
    ) -> Result<JsValue> {
        let wanted: Row = from_js(&wanted)?;
        let test = Test { prompt: wanted.prompt, generate: wanted.generate, depth: wanted.depth };
        if (test.prompt == 0) == (test.generate == 0) {
            return Err(invalid("a row has either prompt or generated tokens"));
        }
        let d = Plan::default();
        let plan = Plan {
            repetitions: wanted.repetitions.unwrap_or(d.repetitions).max(1),
            min_time: wanted.min_time_ms.map_or(d.min_time, Duration::from_millis),
            max_time: wanted.max_time_ms.map_or(Duration::from_secs(30), Duration::from_millis),
            ..d
        };
        let (begun, name) = (now(), test.name());
        let tell = |round| drop(say.call1(&JsValue::UNDEFINED, &format!("{name}, repetition {round}").into()));
        let models = [self.subject.model.clone()];
        let samples = row(&models, &test, &plan, tell).await.map_err(fail)?;
        let record = describe::record(&self.subject, &test, &samples[0], begun).await.map_err(fail)?;
        to_js(&Entry::Workload(Box::new(record)))
    }

    /// Times every kernel at the model's shapes, after comparing it with the CPU.
    ///
    /// # Errors
    /// Device errors; the CPU, which has no shaders.
    #[wasm_bindgen(unchecked_return_type = "Record<string, unknown>[]")]
    pub async fn kernels(
        &self,
        tokens: usize,
        repetitions: usize,
        #[wasm_bindgen(unchecked_param_type = "(what: string) => void")] say: Function,
    ) -> Result<JsValue> {
        let device = self.subject.model.device();
        let gpu = device.as_gpu().ok_or_else(|| invalid("kernels are timed on WebGPU, and this is the CPU"))?;
        let setup = kernels::Setup {
            config: self.preset.config(),
            model: self.preset.name.to_owned(),
            seed: self.seed,
            format: Storage::default().format().map_err(fail)?,
            tokens: tokens.clamp(1, 512),
            repetitions: repetitions.max(1),
            adapter: self.subject.adapter.clone(),
            runtime: self.subject.runtime.clone(),
            probes: self.subject.probes,
        };
        let tell = |what: String| drop(say.call1(&JsValue::UNDEFINED, &what.into()));
        let records = kernels::run(gpu, &setup, tell).await.map_err(fail)?;
        to_js(&records.into_iter().map(|r| Entry::Kernel(Box::new(r))).collect::<Vec<_>>())
    }
}
