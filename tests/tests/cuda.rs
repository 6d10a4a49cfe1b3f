//! The kernels of a Mamba-2 mixer against state-spaces' own, whose outputs on seeded inputs lie in `golden/cuda`
//! (`golden/make_cuda_fixtures.py` made them on an NVIDIA card): on the CPU, on the GPU and at base tier.

use std::collections::BTreeMap;
use std::path::Path;

use pollster::block_on;
use serde_json::Value;
use taipan::Device;
use taipan::description::Buffers;
use taipan::run::cpu::{self, VectorData};
use taipan::run::gpu;
use taipan_kernels::{
    BmmChunk, BufferId, Call, CausalConv1d, ChunkCumsum, ChunkScan, ChunkState, ConvAppend, Element, Mixer,
    MixerUpdate, RmsNormGated, Rows, StatePassing, Vector, control,
};
use taipan_reference::GateMode;
use taipan_tests::device;

/// `|a − b| ≤ BOUND · max(1, |b|)`. The kernels are within 2e-5 of float64, theirs too.
const BOUND: f64 = 1e-3;

/// What one call of the packages took and gave.
struct Golden {
    name: String,
    call: Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    fn all(prefix: &str) -> Vec<Self> {
        // The program may have been carried to another computer, which has the card: then that says where the files are.
        let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let files = std::fs::read_dir(Path::new(&root).join("golden/cuda")).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<Self> = files.map(|path| Self::read(&path)).filter(|g| g.name.starts_with(prefix)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..data]).unwrap();
        let metadata = header.remove("__metadata__").unwrap();
        assert_eq!(metadata["precision"], "ieee", "{}", path.display());
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let numbers = |v: &Value| v.as_array().unwrap().iter().map(number).collect::<Vec<_>>();
        let tensor = |(name, entry): (String, Value)| {
            assert_eq!(entry["dtype"], "F32");
            let (shape, at) = (numbers(&entry["shape"]), numbers(&entry["data_offsets"]));
            let words = bytes[data + at[0]..data + at[1]].chunks_exact(4);
            let values = words.map(|w| f32::from_le_bytes(w.try_into().unwrap())).collect();
            (name, (shape, values))
        };
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into(),
            call: serde_json::from_str(metadata["call"].as_str().unwrap()).unwrap(),
            tensors: header.into_iter().map(tensor).collect(),
        }
    }

    fn get(&self, name: &str) -> &[f32] {
        &self.tensors[name].1
    }

    fn shape(&self, name: &str) -> &[usize] {
        &self.tensors[name].0
    }

    /// The gate, or numbers that nothing reads.
    fn z(&self, len: usize) -> (bool, Vec<f32>) {
        self.tensors.get("in.z").map_or_else(|| (false, vec![f32::NAN; len]), |(_, z)| (true, z.clone()))
    }
}

/// A few calls with their memory.
#[derive(Default)]
struct Program {
    vectors: Vec<VectorData>,
    buffers: Buffers,
    contents: Vec<Vec<u32>>,
    calls: Vec<Call>,
    tokens: usize,
}

impl Program {
    /// For a segment of `tokens` tokens behind `first` others.
    fn new(tokens: usize, first: usize) -> (Self, BufferId) {
        let mut program = Self { tokens, ..Self::default() };
        let mut words = vec![0; control::LEN];
        words[control::CONSUMED] = (first + tokens) as u32;
        words[control::TOKENS] = tokens as u32;
        let id = program.buffers.add("control", 1, words.len(), Element::U32);
        program.contents.push(words);
        (program, BufferId::State(id))
    }

    fn vector(&mut self, parts: &[&[f32]]) -> Vector {
        let data = parts.concat();
        let vector = Vector { id: self.vectors.len() as u32, len: data.len() as u32 };
        self.vectors.push(VectorData::F32(data));
        vector
    }

    fn rows(&mut self, name: &str, data: &[f32], cols: usize) -> Rows {
        let id = self.buffers.add(name, data.len() / cols, cols, Element::F32);
        self.contents.push(data.iter().map(|x| x.to_bits()).collect());
        Rows { buffer: BufferId::State(id), cols: cols as u32 }
    }

    /// To be written: filled with what no kernel makes.
    fn empty(&mut self, name: &str, rows: usize, cols: usize) -> Rows {
        self.rows(name, &vec![-77.25; rows * cols], cols)
    }

    fn mixer(&mut self, g: &Golden, [heads, head_dim, groups, d_state]: [usize; 4], taps: usize) -> Mixer {
        let [heads, head_dim, groups, d_state, taps] = [heads, head_dim, groups, d_state, taps].map(|n| n as u32);
        let (per_head, conv) = (Vector { id: u32::MAX, len: 0 }, Vector { id: u32::MAX, len: 0 });
        let (dt_limit, z_scale, dt_scale) = ((0.0, f32::INFINITY), 1.0, 1.0);
        let mut mixer = Mixer { heads, head_dim, groups, d_state, taps, dt_limit, z_scale, dt_scale, per_head, conv };
        if g.tensors.contains_key("in.A") {
            let a_log: Vec<f32> = g.get("in.A").iter().map(|a| (-a).ln()).collect();
            mixer.per_head = self.vector(&[g.get("in.dt_bias"), &a_log, g.get("in.D")]);
        }
        if g.tensors.contains_key("in.conv_weight") {
            mixer.conv = self.vector(&[g.get("in.conv_weight"), g.get("in.conv_bias")]);
        }
        if let Some(limit) = g.call["dt_limit"].as_array() {
            mixer.dt_limit = (limit[0].as_f64().unwrap() as f32, limit[1].as_f64().unwrap() as f32);
        }
        mixer
    }

    /// Runs it; the buffers asked for.
    fn run<const N: usize>(&self, device: &Device, wanted: [BufferId; N]) -> [Vec<f32>; N] {
        let floats = |words: &[u32]| words.iter().map(|w| f32::from_bits(*w)).collect::<Vec<f32>>();
        let Some(gpu) = device.as_gpu() else {
            let weights = cpu::Weights { matrices: vec![], vectors: self.vectors.clone() };
            let mut memory = cpu::Memory::new(&self.buffers, &Buffers::default());
            for (i, words) in self.contents.iter().enumerate() {
                memory.set_words(BufferId::State(i as u32), words);
            }
            cpu::run(&self.calls, &weights, &mut memory, self.tokens);
            return wanted.map(|id| floats(&memory.get(id).to_words()));
        };
        let vectors = self.vectors.iter().map(|v| gpu::upload_vector(gpu, v)).collect();
        let state = gpu::Memory::new(gpu, &self.buffers);
        for ((buffer, desc), words) in state.list().iter().zip(self.buffers.list()).zip(&self.contents) {
            gpu.write_dense(buffer, desc, words);
        }
        let scratch = gpu::Memory::new(gpu, &Buffers::default());
        let program = gpu::Program::new(gpu, &self.calls, &gpu::Weights { matrices: vec![], vectors });
        let bound = program.bind(gpu, &state, &scratch);
        let mut encoder = gpu.encoder();
        program.encode(&bound, &mut encoder, self.tokens);
        gpu.submit(encoder);
        wanted.map(|id| {
            let BufferId::State(i) = id else { unreachable!("all buffers are state") };
            let (buffer, desc) = (&state.list()[i as usize], &self.buffers.list()[i as usize]);
            floats(&block_on(gpu.read_dense(buffer, desc)).unwrap())
        })
    }
}

/// The rows of a matrix as columns.
fn transposed(data: &[f32], cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| data.iter().skip(c).step_by(cols)).copied().collect()
}

/// Rows of parts beside each other.
fn beside(tokens: usize, parts: &[&[f32]]) -> Vec<f32> {
    let row = |t: usize| parts.iter().flat_map(move |p| &p[t * p.len() / tokens..(t + 1) * p.len() / tokens]);
    (0..tokens).flat_map(row).copied().collect()
}

/// How far apart they are, in parts of what is allowed.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error = |(a, b): (&f32, &f32)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        let e = (a - b).abs() / b.abs().max(1.0);
        if e.is_nan() { f64::INFINITY } else { e / BOUND }
    };
    found.iter().zip(expected).map(error).fold(0.0, f64::max)
}

/// On every device, outputs by name.
fn hold(prefix: &str, count: usize, run: impl Fn(&Golden, &Device) -> Vec<(&'static str, Vec<f32>)>) {
    let all = Golden::all(prefix);
    assert_eq!(all.len(), count, "golden files {prefix}*");
    for g in &all {
        for (device_name, device, _) in device::all() {
            for (output, found) in run(g, &device) {
                let off = distance(&found, g.get(output));
                assert!(off <= 1.0, "{} on {device_name}: {output} is {off} times as far off as allowed", g.name);
            }
        }
    }
}

/// The chunked form, and the gate where there is one: `mamba_chunk_scan_combined`.
fn chunk_scan(g: &Golden, device: &Device, chunk: usize) -> Vec<(&'static str, Vec<f32>)> {
    let ([tokens, heads, head_dim], [_, groups, d_state]) = (g.shape("in.x"), g.shape("in.B")) else {
        panic!("{}: shapes", g.name)
    };
    let (tokens, heads, head_dim, groups, d_state) = (*tokens, *heads, *head_dim, *groups, *d_state);
    let (mut p, control) = Program::new(tokens, 0);
    let mixer = p.mixer(g, [heads, head_dim, groups, d_state], 4);
    let (inner, chunks) = (heads * head_dim, tokens.div_ceil(chunk));
    let (gated, z) = g.z(tokens * inner);
    let between = vec![f32::NAN; tokens * mixer.channels() as usize];
    let raw = p.rows("raw", &beside(tokens, &[&z, &between, g.get("in.dt")]), mixer.projected() as usize);
    let parts = beside(tokens, &[g.get("in.x"), g.get("in.B"), g.get("in.C")]);
    let xbc = p.rows("xbc", &parts, mixer.channels() as usize);
    let da = p.empty("da", tokens, 4 * heads);
    let cb = p.empty("cb", chunks * groups * chunk, chunk);
    let states = p.empty("states", chunks * inner, d_state);
    let ssm = p.rows("ssm", g.get("in.initial_states"), d_state).buffer;
    let (y, out) = (p.empty("y", tokens, inner), p.empty("out", tokens, inner));
    let chunk = chunk as u32;
    p.calls = vec![
        ChunkCumsum { mixer, chunk, raw, control, da }.into(),
        BmmChunk { mixer, chunk, xbc, control, cb }.into(),
        ChunkState { mixer, chunk, xbc, da, control, states }.into(),
        StatePassing { mixer, chunk, da, control, states, ssm }.into(),
        ChunkScan { mixer, chunk, xbc, da, cb, states, control, y }.into(),
    ];
    if gated {
        let (mode, z_scale) = (GateMode::GateOnly, 1.0);
        p.calls.push(RmsNormGated { norm: None, eps: 0.0, groups: 1, mode, y, z: raw, z_at: 0, z_scale, out }.into());
    }
    let [out, state] = p.run(device, [if gated { out.buffer } else { y.buffer }, ssm]);
    vec![("out.out", out), ("out.final_states", state)]
}

/// Token by token: `causal_conv1d_update`, then `selective_state_update`.
fn decode(g: &Golden, device: &Device) -> Vec<(&'static str, Vec<f32>)> {
    let ([heads, head_dim, d_state], [channels, taps]) = (g.shape("in.ssm_state"), g.shape("in.conv_state")) else {
        panic!("{}: shapes", g.name)
    };
    let (heads, head_dim, d_state, channels, taps) = (*heads, *head_dim, *d_state, *channels, *taps);
    let (inner, steps) = (heads * head_dim, g.shape("in.xBC")[0]);
    let groups = (channels - inner) / (2 * d_state);
    let (gate, z) = g.z(steps * inner);
    let rows = beside(steps, &[&z, g.get("in.xBC"), g.get("in.dt")]);
    // The rows before the first token are at positions 0 to taps − 1, and so is the slot of each in the ring.
    let mut ring = transposed(g.get("in.conv_state"), taps);
    let (mut state, mut outs) = (g.get("in.ssm_state").to_vec(), Vec::new());
    for t in 0..steps {
        let (mut p, control) = Program::new(1, taps + t);
        let mixer = p.mixer(g, [heads, head_dim, groups, d_state], taps);
        let cols = mixer.projected() as usize;
        let projected = p.rows("projected", &rows[t * cols..(t + 1) * cols], cols);
        let conv_state = p.rows("conv_state", &ring, channels).buffer;
        let ssm = p.rows("ssm", &state, d_state).buffer;
        let y = p.empty("y", 1, inner);
        p.calls = vec![MixerUpdate { mixer, gate, projected, control, conv_state, ssm, y }.into()];
        let out;
        [out, ring, state] = p.run(device, [y.buffer, conv_state, ssm]);
        outs.extend(out);
    }
    // Theirs shifts, ours goes around.
    ring.rotate_left(steps % taps * channels);
    let conv_state = transposed(&ring, channels);
    vec![("out.out", outs), ("out.final_conv_state", conv_state), ("out.final_ssm_state", state)]
}

/// A segment: `causal_conv1d_fn` with initial and final states.
fn convolution(g: &Golden, device: &Device) -> Vec<(&'static str, Vec<f32>)> {
    let ([tokens, channels], [_, taps]) = (g.shape("in.xBC"), g.shape("in.conv_weight")) else {
        panic!("{}: shapes", g.name)
    };
    let (tokens, channels, taps) = (*tokens, *channels, *taps);
    let (mut p, control) = Program::new(tokens, taps);
    let mixer = p.mixer(g, [1, channels - 2, 1, 1], taps);
    let between = vec![f32::NAN; tokens];
    let z = vec![f32::NAN; tokens * (channels - 2)];
    let raw = p.rows("raw", &beside(tokens, &[&z, g.get("in.xBC"), &between]), mixer.projected() as usize);
    // Position 0 is too old to be read.
    let before = transposed(g.get("in.initial_states"), taps - 1);
    let conv_state = p.rows("conv_state", &[vec![f32::NAN; channels], before].concat(), channels).buffer;
    let out = p.empty("out", tokens, channels);
    p.calls = vec![
        CausalConv1d { conv: mixer.convolution(), raw, conv_state, control, out }.into(),
        ConvAppend { conv: mixer.convolution(), raw, control, conv_state }.into(),
    ];
    let [out, mut ring] = p.run(device, [out.buffer, conv_state]);
    ring.rotate_left(tokens % taps * channels);
    vec![("out.out", out), ("out.final_states", transposed(&ring[channels..], channels))]
}

/// `rmsnorm_fn` with a gate.
fn gated_norm(g: &Golden, device: &Device) -> Vec<(&'static str, Vec<f32>)> {
    let [tokens, cols] = *g.shape("in.x") else { panic!("{}: shapes", g.name) };
    let (mut p, _) = Program::new(tokens, 0);
    let norm = Some(p.vector(&[g.get("in.weight")]));
    let (y, z) = (p.rows("y", g.get("in.x"), cols), p.rows("z", g.get("in.z"), cols));
    let out = p.empty("out", tokens, cols);
    let before_gate = g.call["norm_before_gate"].as_bool().unwrap();
    let mode = if before_gate { GateMode::NormBeforeGate } else { GateMode::NormAfterGate };
    let groups = cols as u32 / g.call["group_size"].as_u64().unwrap() as u32;
    let eps = g.call["eps"].as_f64().unwrap() as f32;
    p.calls = vec![RmsNormGated { norm, eps, groups, mode, y, z, z_at: 0, z_scale: 1.0, out }.into()];
    let [out] = p.run(device, [out.buffer]);
    vec![("out.out", out)]
}

#[test]
fn the_chunked_form_is_mamba_chunk_scan_combined() {
    for chunk in [64, 50] {
        hold("chunk_scan", 2, |g, device| chunk_scan(g, device, chunk));
    }
}

#[test]
fn the_update_of_a_token_is_causal_conv1d_update_and_selective_state_update() {
    hold("decode", 2, decode);
}

#[test]
fn the_convolution_of_a_segment_is_causal_conv1d_fn() {
    hold("conv", 2, convolution);
}

#[test]
fn the_gated_norm_is_rmsnorm_fn() {
    hold("norm", 3, gated_norm);
}

/// An input of which half is a little off is more than the bound forgives: what is compared depends on it.
#[test]
fn every_input_counts() {
    type Run = fn(&Golden, &Device) -> Vec<(&'static str, Vec<f32>)>;
    let scan: Run = |g, device| chunk_scan(g, device, 64);
    for (prefix, run) in [("chunk_scan", scan), ("decode", decode), ("conv", convolution), ("norm", gated_norm)] {
        for mut g in Golden::all(prefix) {
            let inputs: Vec<String> = g.tensors.keys().filter(|name| name.starts_with("in.")).cloned().collect();
            for input in inputs {
                let kept = g.tensors[&input].clone();
                g.tensors.get_mut(&input).unwrap().1.iter_mut().step_by(2).for_each(|x| *x *= 1.05);
                for device in [Device::cpu(), device::gpu()] {
                    let outputs = run(&g, &device);
                    let off = outputs.iter().map(|(name, found)| distance(found, g.get(name))).fold(0.0, f64::max);
                    assert!(off > 1.0, "{}: nothing depends on {input}", g.name);
                }
                g.tensors.insert(input, kept);
            }
        }
    }
}
