//! From a model on a device, and what was measured, to a record.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use taipan::layers::Programs;
use taipan::run::gpu::parts;
use taipan::{Device, LayerType, Model, Result, SessionOptions};
use taipan_kernels::Kernel;

use crate::measure::Samples;
use crate::record::{
    self, Adapter, Derived, Host, Load, ModelInfo, Percentiles, Prefill, Probes, Quality, Record, Runtime, Stats,
};
use crate::stats::{Summary, percentile, sorted};
use crate::work::{Conditions, Work, total};
use crate::workload::Test;

/// What a GPU says about itself; for the CPU device, what the host is called.
#[must_use]
pub fn adapter(device: &Device, cpu: &str) -> Adapter {
    let Some(a) = device.adapter() else {
        let kind = "cpu".to_owned();
        return Adapter { description: cpu.to_owned(), kind: kind.clone(), backend: kind, ..Adapter::default() };
    };
    let features = [
        ("shader-f16", a.features.shader_f16),
        ("subgroups", a.features.subgroups),
        ("timestamp-query", a.features.timestamps),
    ];
    let limits = [
        ("maxStorageBuffersPerShaderStage", a.limits.storage_buffers.into()),
        ("maxStorageBufferBindingSize", a.limits.storage_binding_bytes),
        ("maxBufferSize", a.limits.buffer_bytes),
        ("maxComputeWorkgroupStorageSize", a.limits.workgroup_memory_bytes.into()),
        ("maxComputeInvocationsPerWorkgroup", a.limits.workgroup_invocations.into()),
    ];
    let [subgroup_min, subgroup_max] = a.limits.subgroup_size;
    Adapter {
        vendor: format!("{:#06x}", a.vendor),
        architecture: String::new(),
        device: format!("{:#06x}", a.device),
        description: a.name.clone(),
        driver: a.driver.clone(),
        driver_info: a.driver_info.clone(),
        kind: a.kind.clone(),
        is_fallback: a.software,
        backend: a.backend.clone(),
        features: features.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()).collect(),
        limits: limits.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        subgroup_min,
        subgroup_max,
    }
}

/// Hash of every shader module with every set of switches.
#[must_use]
pub fn kernel_set_hash() -> String {
    let mut hash = Sha256::new();
    for p in taipan_cases::permutations() {
        hash.update(p.module_name());
        hash.update(format!("{:?}", p.overrides));
        hash.update(p.decl.source(p.format));
    }
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// This program.
#[must_use]
pub fn runtime(kind: &str, browser: Option<String>) -> Runtime {
    Runtime {
        kind: kind.to_owned(),
        browser,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        wgpu: record::WGPU.to_owned(),
        naga: record::NAGA.to_owned(),
        kernel_set_hash: kernel_set_hash(),
    }
}

/// What stays the same over the rows of a model on a device.
pub struct Subject {
    /// The model.
    pub model: Model,
    /// Described.
    pub info: ModelInfo,
    /// Bytes of a matrix element as the device reads it.
    pub element: f64,
    /// Described.
    pub adapter: Adapter,
    /// The computer.
    pub host: Host,
    /// The program.
    pub runtime: Runtime,
    /// Ceilings.
    pub probes: Probes,
    /// Load times.
    pub load: Load,
    /// Agreement.
    pub quality: Quality,
    /// The very first token after loading.
    pub ttft_cold_ns: Option<f64>,
    /// The commit of the build.
    pub build_commit: String,
}

/// A model, but for what only measuring tells.
#[must_use]
pub fn model_info(model: &Model, id: &str, sha256: String, seed: Option<u64>) -> ModelInfo {
    let config = model.config();
    let sal = config.selective_attention.as_ref();
    ModelInfo {
        id: id.to_owned(),
        sha256,
        dtype: model.format().name().to_owned(),
        quant: model.format().is_quantised().then(|| model.format().name().to_owned()),
        layers: config.layer_types.len(),
        d_model: config.hidden_size,
        d_state: config.mamba2.as_ref().map_or(0, |m| m.d_state),
        n_sal: config.count(LayerType::SelectiveAttention),
        window: sal.map(|s| s.window),
        attention_budget: sal.and_then(|s| s.attention_budget),
        selected_share: None,
        seed,
        prefill: Some(Prefill {
            segment: model.description().shape.segment,
            chunk: model.description().shape.chunk,
            recurrent: model.recurrent(),
            cooperative: model.device().as_gpu().is_some_and(|gpu| gpu.cooperative()),
        }),
    }
}

/// Floor of a token of a row: (work, dispatches, submissions) per token.
#[must_use]
pub fn per_token(model: &Model, test: &Test, element: f64, selected: f64) -> (Work, f64, f64) {
    let d = model.description();
    let programs = Programs::new(d);
    let gpu = f64::from(u8::from(!model.device().is_cpu()));
    if test.generate > 0 {
        let first = test.depth + test.generate / 2;
        let calls: Vec<_> = programs.decode.iter().chain(&programs.sample).copied().collect();
        let work = total(&calls, &Conditions { tokens: 1, first, selected, element });
        return (work, model.decode_dispatches() as f64, gpu);
    }
    let (mut sum, mut dispatches, mut submits) = (Work::default(), 0, 0);
    for first in (0..test.prompt).step_by(d.shape.segment) {
        let tokens = d.shape.segment.min(test.prompt - first);
        let first = test.depth + first;
        if tokens <= model.recurrent() {
            let one = |first| total(&programs.decode, &Conditions { tokens: 1, first, selected, element });
            sum = std::iter::once(sum).chain((first..first + tokens).map(one)).sum();
            dispatches += tokens * programs.decode.len();
            submits += tokens;
        } else {
            let c = Conditions { tokens, first, selected, element };
            sum = [sum, total(&programs.prefill, &c)].into_iter().sum();
            dispatches += programs.prefill.len();
            submits += parts(programs.prefill.len()).count();
        }
    }
    let n = test.prompt as f64;
    let per = |x: f64| x / n;
    let work = Work {
        flops: per(sum.flops),
        weights: per(sum.weights),
        state: per(sum.state),
        activations: per(sum.activations),
    };
    (work, gpu * per(dispatches as f64), gpu * per(submits as f64))
}

/// Makes the record of a row.
///
/// # Errors
/// Device errors.
pub async fn record(subject: &Subject, test: &Test, samples: &Samples, test_time: String) -> Result<Record> {
    let Subject { model, info, .. } = subject;
    let samples_ns = samples.ns();
    let samples_ts: Vec<f64> = samples_ns.iter().map(|ns| test.tokens() as f64 / ns * 1e9).collect();
    let (ts, ns) = (Summary::of(&samples_ts), Summary::of(&samples_ns));
    let bytes = model.session(SessionOptions::default())?.stats().await?.bytes;
    let (work, dispatches, mut submits) = per_token(model, test, subject.element, info.selected_share.unwrap_or(0.0));
    let counted: Vec<u64> = samples.repetitions.iter().filter_map(|r| r.submits).collect();
    if !counted.is_empty() {
        // Steps go together as the clock says, so only a count can tell.
        submits = counted.iter().sum::<u64>() as f64 / (counted.len() * test.generate) as f64;
    }
    let windows = model.description().state.list().iter().filter(|b| b.name.ends_with(".window"));
    let window: u64 = windows.map(|b| if model.device().is_cpu() { 4 * b.len() as u64 } else { b.gpu_bytes() }).sum();
    let probes = subject.probes;
    let rate = |per_token: f64, ceiling: f64| per_token * ts.median / (1e9 * ceiling);
    Ok(Record {
        n_prompt: test.prompt,
        n_gen: test.generate,
        n_depth: test.depth,
        avg_ts: ts.mean,
        stddev_ts: ts.stddev,
        avg_ns: ns.mean,
        samples_ns,
        samples_ts,
        model_type: format!("{} {}", info.id, info.quant.as_deref().unwrap_or(&info.dtype)),
        model_size: bytes.weights,
        model_n_params: model.config().parameters(),
        backends: subject.adapter.backend.clone(),
        gpu_info: subject.adapter.description.clone(),
        test_time,
        build_commit: subject.build_commit.clone(),
        adapter: subject.adapter.clone(),
        host: subject.host.clone(),
        runtime: subject.runtime.clone(),
        model: info.clone(),
        stats: Stats {
            median_ts: ts.median,
            mad_ts: ts.mad,
            p05: ts.p05,
            p95: ts.p95,
            drift_pct: ts.drift_pct,
            outliers: ts.outliers,
            cut_short: samples.cut_short,
        },
        itl_ns: between_tokens(samples),
        ttft_ns: first_token(samples),
        ttft_cold_ns: subject.ttft_cold_ns,
        load: subject.load,
        memory: record::Memory {
            weights: bytes.weights,
            state: bytes.state - window,
            window,
            scratch: bytes.scratch,
            peak: samples.repetitions.iter().filter_map(|r| r.held).max(),
        },
        work: record::Work {
            dispatches_per_token: dispatches,
            submits_per_token: submits,
            flops_per_token: work.flops,
            bytes_per_token: work.floor_bytes(),
        },
        probes,
        derived: Derived {
            bw_efficiency: rate(work.floor_bytes(), probes.copy_gbps),
            flops_efficiency: rate(work.flops, probes.fma_gflops),
        },
        quality: subject.quality.clone(),
        vs: None,
    })
}

fn between_tokens(samples: &Samples) -> Option<Percentiles> {
    let all: Vec<f64> = samples.repetitions.iter().flat_map(|r| r.tokens_ns.iter().skip(1)).copied().collect();
    let all = sorted(&all);
    let at = |p| percentile(&all, p);
    (!all.is_empty()).then(|| Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) })
}

fn first_token(samples: &Samples) -> Option<f64> {
    let all: Vec<f64> = samples.repetitions.iter().filter_map(|r| r.first_token_ns).collect();
    (!all.is_empty()).then(|| crate::stats::median(&all))
}

/// Shapes of a call's parameters on a device with this tuning, for people.
#[must_use]
pub fn shape_of(call: &taipan_kernels::Call, tuning: &taipan_kernels::Tuning) -> String {
    let rows = call.matrix().map_or(0, |m| m.rows);
    let launch = call.launch_tuned(taipan_kernels::Piece { first_row: 0, rows }, tuning);
    let switches = launch.overrides.iter().filter(|(_, v)| *v != 0.0).map(|(n, v)| format!("{n}={v}"));
    let sizes = launch.params.iter().filter_map(|(n, w)| match w {
        taipan_kernels::Word::U(u) if *u != 0 && *n != "first_row" && *n != "capacity" => Some(format!("{n}={u}")),
        _ => None,
    });
    sizes.chain(switches).collect::<Vec<_>>().join(" ")
}
