//! What a run writes. `schema.json` beside the sources is generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::Ratio;

/// One line of a file of results: a workload, or a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Entry {
    /// A kernel on its own.
    Kernel(Box<KernelRecord>),
    /// A workload.
    Workload(Box<Record>),
}

/// A workload on one device. The names of llama-bench come first and mean what they mean there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Prompt tokens; 0 in a row of decoding.
    pub n_prompt: usize,
    /// Decoded tokens; 0 in a row of prefill.
    pub n_gen: usize,
    /// Tokens in the session before the clock starts.
    pub n_depth: usize,
    /// Mean of tokens per second.
    pub avg_ts: f64,
    /// Standard deviation of tokens per second.
    pub stddev_ts: f64,
    /// Mean nanoseconds of a repetition.
    pub avg_ns: f64,
    /// Nanoseconds of every repetition, in order.
    pub samples_ns: Vec<f64>,
    /// Tokens per second of every repetition, in order.
    pub samples_ts: Vec<f64>,
    /// Model and storage, for people.
    pub model_type: String,
    /// Bytes of weights on the device.
    pub model_size: u64,
    /// Parameters.
    pub model_n_params: u64,
    /// `cpu`, `vulkan`, `metal`, `dx12`, `gl` or `webgpu`.
    pub backends: String,
    /// The device, for people.
    pub gpu_info: String,
    /// When the row was begun, ISO 8601 in UTC.
    pub test_time: String,
    /// The commit of the build, where the build was told it.
    pub build_commit: String,
    /// The device.
    pub adapter: Adapter,
    /// The computer.
    pub host: Host,
    /// What ran.
    pub runtime: Runtime,
    /// The model.
    pub model: ModelInfo,
    /// Statistics of tokens per second.
    pub stats: Stats,
    /// Nanoseconds between tokens; absent in a row of prefill.
    pub itl_ns: Option<Percentiles>,
    /// Nanoseconds from an empty session to the first token of a prompt of `n_prompt` tokens (1 in a row of decoding),
    /// median of the repetitions; absent where the row has a depth.
    pub ttft_ns: Option<f64>,
    /// The same once, right after loading: nothing is warm.
    pub ttft_cold_ns: Option<f64>,
    /// Load time by phase.
    pub load: Load,
    /// Bytes.
    pub memory: Memory,
    /// Per token.
    pub work: Work,
    /// Ceilings measured in the same run.
    pub probes: Probes,
    /// Speed against the ceilings.
    pub derived: Derived,
    /// Agreement with the CPU; no row is without it.
    pub quality: Quality,
    /// In a row of a second option set: against the first, repetitions in turn.
    pub vs: Option<Versus>,
}

/// The device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adapter {
    /// PCI vendor in hexadecimal, or a CPU's vendor.
    pub vendor: String,
    /// In a browser, what it tells.
    pub architecture: String,
    /// PCI device in hexadecimal, or empty.
    pub device: String,
    /// Name.
    pub description: String,
    /// Driver.
    pub driver: String,
    /// Its version and such.
    pub driver_info: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A software implementation of a graphics interface; kept out of rankings.
    pub is_fallback: bool,
    /// `cpu` is the CPU device.
    pub backend: String,
    /// Features that matter here.
    pub features: Vec<String>,
    /// Limits that matter here, by their WebGPU names.
    pub limits: BTreeMap<String, u64>,
    /// Smallest subgroup.
    pub subgroup_min: u32,
    /// Largest subgroup.
    pub subgroup_max: u32,
}

/// The computer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// System and version.
    pub os: String,
    /// CPU and its logical cores.
    pub cpu_info: String,
    /// Memory; unknown in a browser.
    pub ram_bytes: Option<u64>,
}

/// What ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Runtime {
    /// `native` or `browser`.
    pub kind: String,
    /// The browser.
    pub browser: Option<String>,
    /// Of Taipan.
    pub version: String,
    /// Of wgpu.
    pub wgpu: String,
    /// Of naga.
    pub naga: String,
    /// Hash of every shader module and its switches.
    pub kernel_set_hash: String,
}

/// The model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelInfo {
    /// Preset, or folder.
    pub id: String,
    /// Of the weights, or of what they are drawn from.
    pub sha256: String,
    /// Storage of matrices.
    pub dtype: String,
    /// Quantisation, if any.
    pub quant: Option<String>,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// State size of a channel.
    pub d_state: usize,
    /// Selective attention layers.
    pub n_sal: usize,
    /// Positions of the attention window.
    pub window: Option<usize>,
    /// Share of tokens that the model was trained to select.
    pub attention_budget: Option<f64>,
    /// Share of tokens that were selected, as measured in the quality run.
    pub selected_share: Option<f64>,
    /// Seed of a drawn model.
    pub seed: Option<u64>,
    /// How prompts run; absent in older files.
    #[serde(default)]
    pub prefill: Option<Prefill>,
}

/// How prompts run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prefill {
    /// Most tokens of a segment.
    pub segment: usize,
    /// Tokens of a chunk.
    pub chunk: usize,
    /// Most tokens that run one by one instead.
    pub recurrent: usize,
    /// Whether the adapter's matrix units may be used.
    pub cooperative: bool,
}

/// Statistics of tokens per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Median.
    pub median_ts: f64,
    /// Median absolute deviation.
    pub mad_ts: f64,
    /// 5th percentile.
    pub p05: f64,
    /// 95th percentile.
    pub p95: f64,
    /// From the first repetition to the last, in percent of the median.
    pub drift_pct: f64,
    /// Indices of outlying repetitions.
    pub outliers: Vec<usize>,
    /// The time limit ended the row before it had as many repetitions and as much time as asked for.
    pub cut_short: bool,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th.
    pub p95: f64,
    /// 99th.
    pub p99: f64,
}

/// Load time by phase, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Opening the device.
    pub device_ns: f64,
    /// Reading or drawing weights, uploading them and compiling pipelines.
    pub model_ns: f64,
    /// The first session.
    pub session_ns: f64,
    /// All.
    pub total_ns: f64,
}

/// Bytes on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Weights.
    pub weights: u64,
    /// A session's state, its windows excepted.
    pub state: u64,
    /// A session's attention windows.
    pub window: u64,
    /// Scratch.
    pub scratch: u64,
    /// Held by the device's allocator (of the CPU device: by the process) after the row, where it tells.
    pub peak: Option<u64>,
}

/// Per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// Dispatches; 0 on the CPU device.
    pub dispatches_per_token: f64,
    /// Submissions; 0 on the CPU device.
    pub submits_per_token: f64,
    /// Floating-point operations.
    pub flops_per_token: f64,
    /// Weights read once, state read and written.
    pub bytes_per_token: f64,
}

/// Ceilings measured in the same run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Probes {
    /// Bytes read and written by a copy, in 10⁹ a second.
    pub copy_gbps: f64,
    /// f32 multiply-adds as two operations, in 10⁹ a second.
    pub fma_gflops: f64,
    /// Microseconds of a dispatch that waits for the one before; none on the CPU device.
    pub dispatch_us: Option<f64>,
    /// Microseconds from a submission to its result in host memory; none on the CPU device.
    pub map_roundtrip_us: Option<f64>,
}

/// Speed against the ceilings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Derived {
    /// `bytes_per_token` times the median of tokens per second, over the copy bandwidth.
    pub bw_efficiency: f64,
    /// `flops_per_token` times the median of tokens per second, over the multiply-add rate.
    pub flops_efficiency: f64,
}

/// Agreement with the CPU under forced decoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Share of positions with the same most probable token.
    pub agreement_rate: f64,
    /// First position where it differs.
    pub first_disagreement: Option<usize>,
    /// Largest difference of a logit.
    pub max_abs_logit_err: f64,
    /// Positions compared.
    pub tokens: usize,
    /// What it was compared with.
    pub reference: String,
}

/// A second option set against the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Versus {
    /// The options.
    pub options: String,
    /// Tokens per second over those of the first set.
    #[serde(flatten)]
    pub ratio: Ratio,
}

/// A kernel on its own, at a shape of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelRecord {
    /// The kernel.
    pub kernel: String,
    /// `decode` or `prefill`.
    pub phase: String,
    /// Sizes and switches.
    pub shape: String,
    /// Tokens of the segment.
    pub tokens: usize,
    /// Calls of it in the whole model; 0 where the device runs it as part of another kernel.
    pub calls: usize,
    /// Nanoseconds of one call, median.
    pub median_ns: f64,
    /// Median absolute deviation.
    pub mad_ns: f64,
    /// Samples, each the mean of several calls.
    pub samples_ns: Vec<f64>,
    /// How it was timed.
    pub timer: String,
    /// Traffic in 10⁹ bytes a second: weights, state and activations.
    pub gbps: f64,
    /// Arithmetic in 10⁹ operations a second.
    pub gflops: f64,
    /// `gbps` over the copy bandwidth.
    pub bw_ratio: f64,
    /// `gflops` over the multiply-add rate.
    pub flops_ratio: f64,
    /// Largest `|a − b| / (1 + |b|)` against the CPU on the same inputs.
    pub worst: f64,
    /// What is allowed.
    pub tolerance: f64,
    /// Whether it is within.
    pub ok: bool,
    /// The model whose shapes these are.
    pub model: String,
    /// The device.
    pub adapter: Adapter,
    /// What ran.
    pub runtime: Runtime,
    /// Ceilings measured in the same run.
    pub probes: Probes,
}

/// The schema of a file of results, as it is shipped.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Vec<Entry>);
    serde_json::to_string_pretty(&schema).expect("a schema is plain data") + "\n"
}

/// The versions of what is built in; a test holds them to the lock file.
pub(crate) const WGPU: &str = "30.0.1";
pub(crate) const NAGA: &str = "30.0.1";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with every field filled.
    pub(crate) fn record(device: &str, n_prompt: usize, n_gen: usize, n_depth: usize, ts: f64) -> Record {
        let adapter = Adapter { description: device.to_owned(), backend: "vulkan".to_owned(), ..Adapter::default() };
        Record {
            n_prompt,
            n_gen,
            n_depth,
            avg_ts: ts,
            stddev_ts: ts / 50.0,
            avg_ns: 1e9,
            samples_ns: vec![1e9, 1.1e9],
            samples_ts: vec![ts, 0.95 * ts],
            model_type: "tiny f16".to_owned(),
            model_size: 1 << 20,
            model_n_params: 1 << 19,
            backends: "vulkan".to_owned(),
            gpu_info: device.to_owned(),
            test_time: "2026-01-01T00:00:00Z".to_owned(),
            build_commit: "unknown".to_owned(),
            adapter,
            host: Host::default(),
            runtime: Runtime::default(),
            model: ModelInfo { id: "tiny".to_owned(), dtype: "f16".to_owned(), ..ModelInfo::default() },
            stats: Stats { median_ts: ts, mad_ts: ts / 40.0, p05: 0.9 * ts, p95: 1.1 * ts, ..Stats::default() },
            itl_ns: (n_gen > 0).then_some(Percentiles { p50: 1.0, p95: 2.0, p99: 3.0 }),
            ttft_ns: Some(5e6),
            ttft_cold_ns: Some(6e6),
            load: Load::default(),
            memory: Memory::default(),
            work: Work { flops_per_token: 1e9, bytes_per_token: 1e8, ..Work::default() },
            probes: Probes { copy_gbps: 100.0, fma_gflops: 1000.0, dispatch_us: Some(1.0), map_roundtrip_us: None },
            derived: Derived { bw_efficiency: 0.5, flops_efficiency: 0.25 },
            quality: Quality { agreement_rate: 1.0, tokens: 64, ..Quality::default() },
            vs: None,
        }
    }

    /// A kernel's record.
    pub(crate) fn kernel(device: &str) -> KernelRecord {
        KernelRecord {
            kernel: "matvec".to_owned(),
            phase: "decode".to_owned(),
            shape: "rows=4".to_owned(),
            tokens: 1,
            calls: 3,
            median_ns: 1000.0,
            mad_ns: 10.0,
            samples_ns: vec![1000.0],
            timer: "GPU timestamps".to_owned(),
            gbps: 50.0,
            gflops: 10.0,
            bw_ratio: 0.5,
            flops_ratio: 0.01,
            worst: 0.0,
            tolerance: 1e-5,
            ok: true,
            model: "tiny".to_owned(),
            adapter: Adapter { description: device.to_owned(), ..Adapter::default() },
            runtime: Runtime::default(),
            probes: Probes::default(),
        }
    }

    #[test]
    fn the_shipped_schema_is_that_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json");
        let shipped = std::fs::read_to_string(path).unwrap_or_default();
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, schema()).expect("the crate's folder is writable");
            return;
        }
        assert!(shipped == schema(), "UPDATE_SCHEMA=1 cargo test -p taipan-bench writes schema.json afresh");
    }

    #[test]
    fn the_schema_takes_a_real_record_and_refuses_one_without_quality() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let entries =
            [Entry::Workload(Box::new(record("gpu", 128, 0, 0, 10.0))), Entry::Kernel(Box::new(kernel("gpu")))];
        let mut value = serde_json::to_value(&entries).expect("JSON");
        assert!(validator.is_valid(&value));
        let back: Vec<Entry> = serde_json::from_value(value.clone()).expect("a record");
        assert_eq!(back, entries);
        value[0].as_object_mut().expect("an object").remove("quality");
        assert!(!validator.is_valid(&value));
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).expect("Cargo.lock");
        for (name, version) in [("wgpu", WGPU), ("naga", NAGA)] {
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name} is not {version}");
        }
    }
}
