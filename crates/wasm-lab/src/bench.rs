//! The native benchmark's rows, measured here.

use std::time::Duration;

use js_sys::{Date, Function, Object, Reflect};
use serde::Deserialize;
use taipan::{LoadOptions, SessionOptions};
use taipan_bench::describe::{self, Subject};
use taipan_bench::draw::{self, Storage};
use taipan_bench::measure::{Plan, row};
use taipan_bench::presets::{PRESETS, Preset};
use taipan_bench::record::{Entry, Host, Load};
use taipan_bench::work::element_bytes;
use taipan_bench::workload::{Test, repeat};
use taipan_bench::{kernels, probes, subject};
use taipan_wasm::{Device, Files, Result, dtype_of, from_js, invalid, to_js, to_js_error};
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

/** A model from files, as `Model.load` of the other module takes them. */
export interface BenchModel {
    id: string;
    sha256: string;
    dtype: string;
    files: ModelFiles;
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

/// A model on a device, ready to be measured.
#[wasm_bindgen]
pub struct Bench {
    subject: Subject,
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

/// What a model is called.
struct About {
    id: String,
    sha256: String,
    seed: Option<u64>,
}

/// An error on its way to JavaScript.
struct Failure(JsValue);

impl Failure {
    fn of(error: taipan::Error) -> Self {
        Self(fail(error))
    }
}

impl From<taipan::Error> for Failure {
    fn from(error: taipan::Error) -> Self {
        Self::of(error)
    }
}

/// The CPU holds weights as f32, and a module has less memory than four gigabytes.
const MOST_PARAMETERS: u64 = 500_000_000;

fn tell(say: &Function, what: &str) {
    let _ = say.call1(&JsValue::UNDEFINED, &what.into());
}

fn since(clock: f64) -> f64 {
    (Date::now() - clock) * 1e6
}

impl Bench {
    /// Everything about a model that is not of one row.
    async fn ready(
        device: &taipan::Device,
        settings: Settings,
        about: About,
        load: impl AsyncFn(&taipan::Device) -> Result<taipan::Model, Failure>,
        say: &Function,
    ) -> Result<Bench> {
        let clock = Date::now();
        let model = load(device).await.map_err(|e| e.0)?;
        let model_ns = since(clock);
        let clock = Date::now();
        model.session(SessionOptions::default()).map_err(fail)?.stats().await.map_err(fail)?;
        let session_ns = since(clock);
        let first = Test { prompt: 0, generate: 1, depth: 0 };
        let cold = repeat(&model, &first, None).await.map_err(fail)?;
        tell(say, "comparing with the CPU");
        let on_cpu = async |config: &taipan::Config| match config.parameters() {
            ..=MOST_PARAMETERS => load(&taipan::Device::cpu()).await,
            n => {
                let why = "no row is written without a comparison with the CPU";
                Err(Failure(invalid(&format!(
                    "{why}, and in a browser that takes at most {MOST_PARAMETERS} parameters, not {n}"
                ))))
            }
        };
        let (quality, share) = subject::agreement(&model, on_cpu).await.map_err(|e| e.0)?;
        tell(say, "measuring what the device can do");
        let device_ns = settings.device_ms * 1e6;
        let mut info = describe::model_info(&model, &about.id, about.sha256, about.seed);
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
        Ok(Bench { subject, seed: settings.seed })
    }
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
        let name = settings.preset.as_deref().unwrap_or("taipan-4.7m");
        let preset = Preset::find(name).ok_or_else(|| invalid(&format!("there is no preset `{name}`")))?;
        let (device, storage) = (device.inner(), Storage::default());
        tell(&say, "drawing the model");
        let drawn = subject::drawn(preset, settings.seed, draw::SELECTED, device, storage).await.map_err(fail)?;
        let about = About { id: drawn.id.clone(), sha256: drawn.sha256(), seed: Some(settings.seed) };
        let load = async |device: &taipan::Device| draw::model(&drawn, device, storage).await.map_err(Failure::of);
        Self::ready(device, settings, about, load, &say).await
    }

    /// The same with a model from files; `id` names it, `sha256` is of its weight files in the order of their names.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit each other or the device; a model too large for the comparison.
    #[wasm_bindgen(js_name = openModel)]
    pub async fn open_model(
        device: &Device,
        #[wasm_bindgen(unchecked_param_type = "BenchSettings")] settings: JsValue,
        #[wasm_bindgen(unchecked_param_type = "BenchModel")] model: Object,
        #[wasm_bindgen(unchecked_param_type = "(file: string, start: number, end: number) => Promise<Uint8Array>")]
        read: Function,
        #[wasm_bindgen(unchecked_param_type = "(what: string) => void")] say: Function,
    ) -> Result<Bench> {
        let settings: Settings = from_js(&settings)?;
        let text = |key: &str| Ok::<_, JsValue>(Reflect::get(&model, &key.into())?.as_string().unwrap_or_default());
        let about = About { id: text("id")?, sha256: text("sha256")?, seed: None };
        let dtype = dtype_of(&text("dtype")?)?;
        let files = Files::of(&Reflect::get(&model, &"files".into())?.dyn_into()?)?;
        let weights = files.weights(&read)?;
        tell(&say, "loading the model");
        let load = async |device: &taipan::Device| {
            let options = LoadOptions { dtype, ..LoadOptions::default() };
            taipan::Model::from_source(&files.config, None, &weights, device, options).await.map_err(Failure::of)
        };
        Self::ready(device.inner(), settings, about, load, &say).await
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
        let tell = |round| tell(&say, &format!("{name}, repetition {round}"));
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
            config: self.subject.model.config().clone(),
            model: self.subject.info.id.clone(),
            seed: self.seed,
            selected: draw::SELECTED,
            format: self.subject.model.format(),
            tokens: tokens.clamp(1, 512),
            repetitions: repetitions.max(1),
            adapter: self.subject.adapter.clone(),
            runtime: self.subject.runtime.clone(),
            probes: self.subject.probes,
        };
        let tell = |what: String| tell(&say, &what);
        let records = kernels::run(gpu, &setup, tell).await.map_err(fail)?;
        to_js(&records.into_iter().map(|r| Entry::Kernel(Box::new(r))).collect::<Vec<_>>())
    }
}
