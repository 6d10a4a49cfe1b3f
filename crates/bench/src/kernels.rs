//! Every kernel at the shapes of a model: compared with the CPU on the same inputs, then timed on them.
//!
//! A model of one layer of each kind has every shape that the whole model has. Its programs run call by call on the CPU;
//! each call also runs on the GPU, from the CPU's buffers, and what it wrote is compared. So inputs are those of a model at
//! work, never zeros, with gates that select some tokens and not others.

mod dispatches;
mod timing;

use std::collections::{HashMap, HashSet};

use taipan::description::{Buffers, Description, Shape};
use taipan::layers::Programs;
use taipan::run::gpu::Weights;
use taipan::run::{cpu, gpu};
use taipan::{Config, LayerType, Result};
use taipan_gpu::{Gpu, Timer};
use taipan_kernels::{
    BufferDesc, BufferId, Call, Element, Kernel, Launch, Piece, Tuning, WeightFormat, control, selection,
};

use crate::describe::shape_of;
use crate::draw::{self, ids};
use crate::probes::roundtrip_ns;
use crate::random::Drawn;
use crate::record::{Adapter, KernelRecord, Probes, Runtime};
use crate::stats::Summary;
use crate::work::{Conditions, element_bytes, total};
use dispatches::{Step, Together, dispatches, signature};

/// What is timed, and where.
pub struct Setup {
    /// The model whose shapes these are.
    pub config: Config,
    /// Its name.
    pub model: String,
    /// Of weights and inputs.
    pub seed: u64,
    /// Share of tokens that the gates select.
    pub selected: f64,
    /// Storage of matrices.
    pub format: WeightFormat,
    /// Tokens of a segment of prefill.
    pub tokens: usize,
    /// Samples of a kernel.
    pub repetitions: usize,
    /// The device, described.
    pub adapter: Adapter,
    /// The program, described.
    pub runtime: Runtime,
    /// Ceilings.
    pub probes: Probes,
}

/// Tokens that went before, so that windows are not empty.
const BEFORE: usize = 1000;

struct Bench<'a> {
    gpu: &'a Gpu,
    setup: &'a Setup,
    d: Description,
    drawn: Drawn,
    weights: gpu::Weights,
    cpu_weights: cpu::Weights,
    memory: cpu::Memory,
    state: gpu::Memory,
    scratch: gpu::Memory,
    roundtrip: f64,
    timer: Option<Timer>,
}

fn launch(call: &Call) -> Launch {
    call.launch(Piece { first_row: 0, rows: call.matrix().map_or(0, |m| m.rows) })
}

/// One layer of each kind.
fn short(config: &Config) -> Config {
    let mut short = config.clone();
    short.layer_types =
        [LayerType::Mamba2, LayerType::SelectiveAttention].into_iter().filter(|kind| config.count(*kind) > 0).collect();
    short
}

/// A dispatch to be measured, and how often the whole model has it.
#[derive(Clone, Copy)]
struct Case<'a> {
    calls: &'a [Call],
    phase: &'static str,
    tokens: usize,
    times: usize,
}

impl Case<'_> {
    fn kernel(&self) -> &'static str {
        Step::whole(self.calls).map_or_else(|| self.calls[0].decl().name, |step| step.name)
    }
}

/// What a dispatch left in its buffers, and nanoseconds.
#[derive(Clone)]
struct Found {
    words: Vec<(BufferId, Vec<u32>)>,
    samples: Vec<f64>,
}

/// Times every kernel of decode and of prefill.
///
/// # Errors
/// Device errors; a model that does not fit.
pub async fn run(gpu: &Gpu, setup: &Setup, say: impl FnMut(String)) -> Result<Vec<KernelRecord>> {
    Ok(walk(gpu, setup, &[gpu.tuning()], |_| true, say).await?.into_iter().flatten().collect())
}

/// Times some kernels, each under every one of `tunings`: a list of records a dispatch, one for each tuning.
///
/// # Errors
/// As [`run`].
pub async fn walk(
    gpu: &Gpu,
    setup: &Setup,
    tunings: &[Tuning],
    wanted: impl Fn(&Call) -> bool,
    mut say: impl FnMut(String),
) -> Result<Vec<Vec<KernelRecord>>> {
    let tunings: Vec<Tuning> = tunings.iter().map(|t| t.for_format(setup.format)).collect();
    let shape = Shape { segment: setup.tokens, chunk: 64.min(setup.tokens), logit_rows: 1 };
    let full = Programs::new(&Description::new(&setup.config, shape));
    let mut bench = Bench::new(gpu, setup, shape).await?;
    let programs = Programs::new(&bench.d);
    let with_sample = |p: &Programs| p.decode.iter().chain(&p.sample).copied().collect::<Vec<Call>>();
    let mut records = Vec::new();
    for (phase, mut calls, all, tokens) in [
        ("prefill", programs.prefill.clone(), full.prefill.clone(), setup.tokens),
        ("decode", with_sample(&programs), with_sample(&full), 1),
    ] {
        // On some devices what has a dispatch of its own here has none in a model: it is measured too, and counts for nothing.
        let ways = if calls.iter().all(&wanted) { bench.ways(&calls) } else { vec![Together::Nothing] };
        let mut counts: HashMap<String, usize> = HashMap::new();
        dispatches(&all, ways[0]).iter().for_each(|calls| *counts.entry(signature(calls)).or_default() += 1);
        // Behind the last one that is wanted there is nothing to compute.
        calls.truncate(calls.iter().rposition(&wanted).map_or(0, |last| last + 1));
        let mut seen = HashSet::new();
        for together in ways {
            bench.begin_selected(&calls, tokens);
            for calls in dispatches(&calls, together) {
                let name = signature(calls);
                calls.iter().for_each(|call| bench.select(call, tokens));
                if calls.iter().all(&wanted) && seen.insert(name.clone()) {
                    let case = Case { calls, phase, tokens, times: counts.get(&name).copied().unwrap_or(0) };
                    say(format!("{phase} {}", case.kernel()));
                    records.push(bench.measure(&case, &tunings).await?);
                } else {
                    cpu::run(calls, &bench.cpu_weights, &mut bench.memory, tokens);
                }
            }
        }
    }
    Ok(records)
}

impl<'a> Bench<'a> {
    async fn new(gpu: &'a Gpu, setup: &'a Setup, shape: Shape) -> Result<Self> {
        let d = Description::new(&short(&setup.config), shape);
        let mut drawn = Drawn::new(&setup.model, short(&setup.config), setup.seed);
        let storage = draw::Storage { segment: Some(setup.tokens), ..draw::Storage::default() };
        draw::calibrate(&mut drawn, &taipan::Device::cpu(), storage, 64, setup.selected).await?;
        Ok(Self {
            gpu,
            setup,
            weights: draw::gpu_weights(gpu, &drawn, &d, setup.format)?,
            cpu_weights: drawn.cpu_weights(&d, setup.format),
            memory: cpu::Memory::new(&d.state, &d.scratch_buffers),
            state: gpu::Memory::new(gpu, &d.state),
            scratch: gpu::Memory::new(gpu, &d.scratch_buffers),
            roundtrip: roundtrip_ns(gpu).await?,
            timer: gpu.timer(),
            d,
            drawn,
        })
    }
}

impl Bench<'_> {
    /// How the device runs layers of a program, the way that takes the fewest dispatches first; its kernels are to be measured
    /// in each.
    fn ways(&self, calls: &[Call]) -> Vec<Together> {
        let runs = |together: &Together| {
            let list = dispatches(calls, *together);
            let first = list.into_iter().find(|calls| Step::whole(calls).is_some_and(|step| step.is(*together)));
            let program = |calls| gpu::Program::tuned(self.gpu, calls, &self.weights_of(calls), &self.gpu.tuning());
            first.is_some_and(|calls| program(calls).len() == 1)
        };
        let ways: Vec<_> = [Together::Layers, Together::Blocks].into_iter().filter(runs).collect();
        if ways.is_empty() { vec![Together::Nothing] } else { ways }
    }

    /// The weights, those of calls that are one dispatch in rows.
    fn weights_of(&self, calls: &[Call]) -> Weights {
        let mut weights = self.weights.clone();
        gpu::in_rows(self.gpu, calls, &mut weights);
        weights
    }

    /// A segment about to run; a single token is one that the first gate selects, if one is soon found: nobody wants the time of
    /// a layer that passes it over.
    fn begin_selected(&mut self, calls: &[Call], tokens: usize) {
        let gate = calls.iter().position(|call| call.decl().name == "token_gate_kv").filter(|_| tokens == 1);
        let chosen = gate.and_then(|gate| {
            (0..64).find(|from| {
                self.begin(tokens, *from);
                cpu::run(&calls[..=gate], &self.cpu_weights, &mut self.memory, tokens);
                self.selected(&calls[gate..=gate], tokens) > 0.0
            })
        });
        self.begin(tokens, chosen.unwrap_or(0));
    }

    /// A segment about to run, behind `BEFORE` tokens whose traces are numbers in [−1, 1).
    fn begin(&mut self, tokens: usize, from: usize) {
        let mut counter = 0;
        for (i, desc) in self.d.state.list().iter().enumerate() {
            if desc.element == Element::F32 {
                let number = |_| {
                    counter += 1;
                    (2.0 * taipan_reference::uniform(self.setup.seed, counter) - 1.0).to_bits()
                };
                self.memory.set_words(BufferId::State(i as u32), &(0..desc.len()).map(number).collect::<Vec<_>>());
            }
        }
        let common = self.d.common;
        let list = ids(&self.setup.config, tokens, from);
        self.memory.u32_mut(common.ids)[..tokens].copy_from_slice(&list);
        let words = self.memory.u32_mut(common.control);
        words[control::CONSUMED] = BEFORE as u32;
        words[control::TOKENS] = tokens as u32;
        // The greedy sampler: a penalty of 1 and nothing else.
        self.memory.u32_mut(common.options)[taipan_kernels::sampler::PENALTY] = 1f32.to_bits();
    }

    /// A single token is selected, whatever its gate says: nobody wants the time of a kernel that returns at once.
    fn select(&mut self, call: &Call, tokens: usize) {
        if tokens > 1 || call.decl().name == "token_gate_kv" {
            return;
        }
        for id in self.buffers(std::slice::from_ref(call)) {
            if self.desc(id).name.ends_with("selection") {
                let words = self.memory.u32_mut(id);
                words[selection::COUNT] = 1;
                words[selection::masks(self.setup.tokens)] = 1;
                words[selection::indices(self.setup.tokens)] = 0;
            }
        }
    }

    fn desc(&self, id: BufferId) -> &BufferDesc {
        let (buffers, i): (&Buffers, u32) = match id {
            BufferId::State(i) => (&self.d.state, i),
            BufferId::Scratch(i) => (&self.d.scratch_buffers, i),
        };
        &buffers.list()[i as usize]
    }

    /// Buffers of calls, indirect arguments included, each once.
    fn buffers(&self, calls: &[Call]) -> Vec<BufferId> {
        let mut list: Vec<BufferId> = Vec::new();
        for launch in calls.iter().map(launch) {
            list.extend(launch.buffers.into_iter().flatten());
            if let taipan_kernels::Grid::Indirect { args, .. } = launch.grid {
                list.push(args);
            }
        }
        let mut seen = std::collections::HashSet::new();
        list.retain(|id| seen.insert(*id));
        list
    }

    fn upload(&self, calls: &[Call]) {
        for id in self.buffers(calls) {
            let words = self.memory.get(id).to_words();
            self.gpu.write_dense(gpu::buffer(id, &self.state, &self.scratch), self.desc(id), &words);
        }
        self.gpu.flush();
    }

    async fn measure(&mut self, case: &Case<'_>, tunings: &[Tuning]) -> Result<Vec<KernelRecord>> {
        // Where two tunings make the same dispatch it is measured once.
        let first = &case.calls[0];
        let piece = Piece { first_row: 0, rows: first.matrix().map_or(0, |m| m.rows) };
        let dispatch = |t: &Tuning| format!("{:?} {}", first.launch_tuned(piece, t), self.variant(case, t));
        let launches: Vec<String> = tunings.iter().map(dispatch).collect();
        let mut found: Vec<Found> = Vec::new();
        for (i, tuning) in tunings.iter().enumerate() {
            let same = launches[..i].iter().position(|launch| *launch == launches[i]);
            found.push(match same {
                Some(same) => found[same].clone(),
                None => {
                    let words = self.outputs(case, tuning).await?;
                    // Timed on what it was compared on; the CPU has not run yet.
                    self.upload(case.calls);
                    Found { words, samples: self.time(case, tuning).await? }
                }
            });
        }
        cpu::run(case.calls, &self.cpu_weights, &mut self.memory, case.tokens);
        let record = |(found, tuning): (&Found, &Tuning)| {
            let worst = found.words.iter().map(|(id, words)| self.difference(*id, words)).fold(0.0, f64::max);
            let shape = match Step::whole(case.calls) {
                Some(Step { gate: Some(_), .. }) => {
                    format!("{}, and a layer of attention with its MLP", shape_of(first, tuning))
                }
                _ => shape_of(first, tuning) + self.variant(case, tuning),
            };
            self.record(case, shape, &found.samples, worst)
        };
        Ok(found.iter().zip(tunings).map(record).collect())
    }

    /// What the name of the shader says beyond the kernel's.
    fn variant(&self, case: &Case<'_>, tuning: &Tuning) -> &'static str {
        let call = &case.calls[0];
        let format = call.matrix().map(|_| self.setup.format);
        let Some(c) = call.cooperative(format, tuning).filter(|_| self.gpu.cooperative()) else { return "" };
        let many = c.many.filter(|(from, _)| case.tokens >= *from as usize);
        let name = many.map_or(c.decl, |(_, decl)| decl).name;
        name.strip_prefix(call.decl().name).unwrap_or(name)
    }

    /// What a dispatch leaves in its buffers.
    async fn outputs(&self, case: &Case<'_>, tuning: &Tuning) -> Result<Vec<(BufferId, Vec<u32>)>> {
        self.upload(case.calls);
        let program = gpu::Program::tuned(self.gpu, case.calls, &self.weights_of(case.calls), tuning);
        let bound = program.bind(self.gpu, &self.state, &self.scratch);
        self.gpu.check()?;
        let mut encoder = self.gpu.encoder();
        program.encode(&bound, &mut encoder, case.tokens);
        self.gpu.submit(encoder);
        let mut found = Vec::new();
        let step = Step::whole(case.calls);
        let used = |id: &BufferId| step.as_ref().is_none_or(|step| step.uses(*id));
        for id in self.buffers(case.calls).into_iter().filter(used) {
            let desc = self.desc(id);
            found.push((id, self.gpu.read_dense(gpu::buffer(id, &self.state, &self.scratch), desc).await?));
        }
        Ok(found)
    }

    /// Largest difference between a GPU's buffer and the CPU's.
    fn difference(&self, id: BufferId, found: &[u32]) -> f64 {
        let desc = self.desc(id);
        let expected = self.memory.get(id).to_words();
        let alphas = selection::alphas()..selection::masks(self.setup.tokens);
        let is_selection = desc.name.ends_with("selection");
        let listed = if is_selection { expected[selection::COUNT] as usize } else { 0 };
        let error = |at: usize| -> f64 {
            let (a, b) = (found[at], expected[at]);
            // The GPU sampler's own notes. Behind the last selected token the list of indices is what was there before.
            let own = desc.name == "candidates" || desc.name == "adjusted logits";
            if own || (is_selection && at >= selection::indices(self.setup.tokens) + listed) {
                return 0.0;
            }
            if desc.element == Element::U32 && !(is_selection && alphas.contains(&at)) {
                return if a == b { 0.0 } else { f64::INFINITY };
            }
            let (a, b) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(b)));
            let e = (a - b).abs() / (1.0 + b.abs());
            if e.is_nan() { f64::INFINITY } else { e }
        };
        // JSON has no infinity.
        (0..found.len()).map(error).fold(0.0, f64::max).min(f64::MAX)
    }

    fn record(&self, case: &Case<'_>, shape: String, samples: &[f64], worst: f64) -> KernelRecord {
        let (Case { calls, phase, tokens, times }, setup) = (*case, self.setup);
        let s = Summary::of(samples);
        let selected = self.selected(calls, tokens);
        let w = total(calls, &Conditions { tokens, first: BEFORE, selected, element: element_bytes(setup.format) });
        let kernel = case.kernel();
        // The table is for sums of 600 products; longer ones round more, as the root of their length.
        let cols = calls.iter().filter_map(|call| Some(f64::from(call.matrix()?.cols))).fold(0.0, f64::max);
        let length = (cols / 600.0).max(1.0).sqrt();
        let tolerance = taipan_cases::tolerance(kernel) * length;
        let (gbps, gflops) = (w.bytes() / s.median, w.flops / s.median);
        KernelRecord {
            kernel: kernel.to_owned(),
            phase: phase.to_owned(),
            shape,
            tokens,
            calls: times,
            median_ns: s.median,
            mad_ns: s.mad,
            samples_ns: samples.to_vec(),
            timer: if self.timer.is_some() { "GPU timestamps" } else { "wall clock less a round trip" }.to_owned(),
            gbps,
            gflops,
            bw_ratio: gbps / setup.probes.copy_gbps,
            flops_ratio: gflops / setup.probes.fma_gflops,
            worst,
            tolerance,
            ok: worst <= tolerance,
            model: setup.model.clone(),
            adapter: setup.adapter.clone(),
            runtime: setup.runtime.clone(),
            probes: setup.probes,
        }
    }

    /// Share of the segment's tokens that the gate in front of these calls selected.
    fn selected(&self, calls: &[Call], tokens: usize) -> f64 {
        let of =
            |id: BufferId| self.desc(id).name.ends_with("selection").then(|| self.memory.u32(id)[selection::COUNT]);
        let count = self.buffers(calls).into_iter().find_map(of).unwrap_or(0);
        f64::from(count) / tokens as f64
    }
}
