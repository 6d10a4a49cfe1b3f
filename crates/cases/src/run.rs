//! Running a case and comparing it with its twin.

use serde::Serialize;
use taipan::run::dense::{PackedMatrix, Twins};
use taipan::run::{cpu, gpu};
use taipan::{Device, Result};
use taipan_gpu::Gpu;
use taipan_kernels::{BufferDesc, BufferId, Decl, Element, selection};

use crate::builder::CAPACITY;
use crate::{Case, tolerance};

/// The outputs of a case, in order: words of the dense form.
pub type Outputs = Vec<Vec<u32>>;

/// How a case went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The kernel.
    pub kernel: &'static str,
    /// Sizes and switches.
    pub shape: String,
    /// Seed of the inputs.
    pub seed: u64,
    /// Largest `|a − b| / (1 + |b|)`; infinite for NaN, missing elements or different words.
    pub worst: f64,
    /// What is allowed.
    pub tolerance: f64,
    /// Whether it is within the tolerance.
    pub ok: bool,
    /// On failure: where, both values, how many disagree.
    pub detail: Option<String>,
}

/// The twin's outputs: plain loops, f64 sums.
#[must_use]
pub fn expected(case: &Case) -> Outputs {
    on_cpu(case, Twins::Plain)
}

fn on_cpu(case: &Case, twins: Twins) -> Outputs {
    let weights = cpu::Weights {
        matrices: case.matrices.iter().map(|(data, cols)| PackedMatrix::pack(data, *cols, case.format)).collect(),
        vectors: case.vectors.clone(),
    };
    let mut memory = cpu::Memory::new(&case.state, &taipan::description::Buffers::default());
    for (i, words) in case.contents.iter().enumerate() {
        memory.set_words(BufferId::State(i as u32), words);
    }
    cpu::run_with(twins, &case.calls, &weights, &mut memory, case.tokens);
    case.outputs.iter().map(|id| memory.get(*id).to_words()).collect()
}

/// A device's outputs.
///
/// # Errors
/// Device errors.
pub async fn on_device(case: &Case, device: &Device) -> Result<Outputs> {
    match device.as_gpu() {
        Some(gpu) => on_gpu(case, gpu, None).await,
        None => Ok(on_cpu(case, Twins::Vectorised)),
    }
}

/// A GPU's outputs; with other shaders than the kernels' own, if `decl` names them: the harness is given wrong ones and must notice.
///
/// # Errors
/// Device errors.
pub async fn on_gpu(
    case: &Case,
    device: &Gpu,
    decl: Option<&dyn Fn(&'static Decl) -> &'static Decl>,
) -> Result<Outputs> {
    let matrix = |(data, cols): &(Vec<f32>, usize)| {
        let most = case.split_rows.min((data.len() / cols).max(1));
        gpu::MatrixBuffers::upload(device, data, *cols, case.format, most)
    };
    let mut weights = gpu::Weights {
        matrices: case.matrices.iter().map(matrix).collect(),
        vectors: case.vectors.iter().map(|v| gpu::upload_vector(device, v)).collect(),
    };
    gpu::in_rows(device, &case.calls, &mut weights);
    let mut described = case.state.clone();
    let [rows, _] = gpu::buffer_rows(device, &case.calls);
    described.in_rows(rows);
    let state = gpu::Memory::new(device, &described);
    for ((buffer, desc), words) in state.list().iter().zip(case.state.list()).zip(&case.contents) {
        device.write_dense(buffer, desc, words);
    }
    let scratch = gpu::Memory::new(device, &taipan::description::Buffers::default());
    let program = match decl {
        Some(decl) => gpu::Program::replaced(device, &case.calls, &weights, decl),
        None => gpu::Program::new(device, &case.calls, &weights),
    };
    let bound = program.bind(device, &state, &scratch);
    device.check()?;
    let mut encoder = device.encoder();
    program.encode(&bound, &mut encoder, case.tokens);
    device.submit(encoder);
    let mut outputs = Vec::new();
    for id in &case.outputs {
        let BufferId::State(i) = *id else { unreachable!("cases keep all buffers as state") };
        outputs.push(device.read_dense(&state.list()[i as usize], &case.state.list()[i as usize]).await?);
    }
    Ok(outputs)
}

/// Compares a device's outputs with the twin's.
#[must_use]
pub fn compare(case: &Case, found: &Outputs, expected: &Outputs) -> Report {
    let tolerance = tolerance(case.kernel);
    let mut report = Report {
        kernel: case.kernel,
        shape: case.shape.clone(),
        seed: case.seed,
        worst: 0.0,
        tolerance,
        ok: false,
        detail: None,
    };
    let blank = report.clone();
    let fail = |detail: String| Report { worst: f64::INFINITY, detail: Some(detail), ..blank.clone() };
    if found.len() != expected.len() || expected.is_empty() {
        return fail(format!("{} outputs, expected {}", found.len(), expected.len()));
    }
    for ((id, found), expected) in case.outputs.iter().zip(found).zip(expected) {
        let BufferId::State(i) = *id else { unreachable!("cases keep all buffers as state") };
        let desc = &case.state.list()[i as usize];
        if found.len() != expected.len() || expected.len() != desc.len() || expected.is_empty() {
            return fail(format!("{}: {} elements, expected {}", desc.name, found.len(), desc.len()));
        }
        let pairs = found.iter().zip(expected).enumerate();
        let errors: Vec<f64> = pairs.map(|(at, (a, b))| error(element(desc, at), *a, *b)).collect();
        let wrong = errors.iter().filter(|e| **e > tolerance).count();
        let at = (0..errors.len()).max_by(|a, b| errors[*a].total_cmp(&errors[*b])).expect("not empty");
        report.worst = report.worst.max(errors[at]);
        if wrong > 0 && report.detail.is_none() {
            let (a, b) = (show(element(desc, at), found[at]), show(element(desc, at), expected[at]));
            let (row, col) = (at / desc.cols, at % desc.cols);
            let all = errors.len();
            report.detail =
                Some(format!("{} [{row}, {col}] is {a}, expected {b}; {wrong} of {all} disagree", desc.name));
        }
    }
    report.ok = report.detail.is_none();
    report
}

/// What the words of an output are, in order.
#[must_use]
pub fn elements(case: &Case, output: usize) -> Vec<Element> {
    let BufferId::State(i) = case.outputs[output] else { unreachable!("cases keep all buffers as state") };
    let desc = &case.state.list()[i as usize];
    (0..desc.len()).map(|at| element(desc, at)).collect()
}

/// What the word at an index is: a selection holds the bits of floats among its words, and so does every route.
fn element(desc: &BufferDesc, at: usize) -> Element {
    let alphas = selection::alphas()..selection::masks(CAPACITY);
    let is_float = match desc.name.as_str() {
        "selection" => alphas.contains(&at),
        "routes" => at % 2 == 1,
        _ => false,
    };
    if is_float { Element::F32 } else { desc.element }
}

fn error(element: Element, a: u32, b: u32) -> f64 {
    match element {
        Element::U32 => {
            if a == b {
                0.0
            } else {
                f64::INFINITY
            }
        }
        Element::F32 => {
            let (a, b) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(b)));
            let e = (a - b).abs() / (1.0 + b.abs());
            if e.is_nan() { f64::INFINITY } else { e }
        }
    }
}

fn show(element: Element, word: u32) -> String {
    match element {
        Element::U32 => word.to_string(),
        Element::F32 => f32::from_bits(word).to_string(),
    }
}

/// What is wrong with a run of cases: failures, kernels that no case ran, or no case at all. Empty is a pass.
#[must_use]
pub fn complaints(reports: &[Report]) -> Vec<String> {
    let ran = |kernel: &str| reports.iter().any(|r| r.kernel == kernel);
    let missing =
        crate::kernels().into_iter().filter(|kernel| !ran(kernel)).map(|kernel| format!("{kernel}: no case ran"));
    let failed = reports.iter().filter(|r| !r.ok).map(|r| {
        let detail = r.detail.as_deref().unwrap_or_default();
        format!("{} ({}), seed {}: {detail}", r.kernel, r.shape, r.seed)
    });
    missing.chain(failed).collect()
}

/// Runs a case on a device and compares it.
///
/// # Errors
/// Device errors.
pub async fn run(case: &Case, device: &Device) -> Result<Report> {
    Ok(compare(case, &on_device(case, device).await?, &expected(case)))
}
