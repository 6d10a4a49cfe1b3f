//! The CPU device: every call through its twin in `taipan-reference`, fused kernels as compositions; what takes time through
//! fast twins, [`super::dense`] and the modules `ssd` and `rows` beside it, unless the CPU is the oracle.

mod memory;
mod prefill;
mod weights;

use std::borrow::Cow;

use taipan_gpu::give_way;
use taipan_kernels::{BufferId, Call, Embed, Epilogue, Experts, Matmul, Matvec, MixerUpdate, Over};
use taipan_kernels::{LogitMaxima, Rows, Sample, TokenGateKv, Vector, control, sampler, selection};
use taipan_reference as reference;
use taipan_reference::{Heads, RECENT, Sampling};

use super::dense::Twins;
use super::threads::on_a_worker;
#[cfg(not(target_arch = "wasm32"))]
use super::{rows, ssd};
// A page, which runs on a GPU where it can, has no room for both.
#[cfg(target_arch = "wasm32")]
use taipan_reference::{self as rows, self as ssd};

pub use memory::{Data, Memory};
pub use weights::{VectorData, Weights, vector_data};

/// Runs a list of calls on a segment of `n` tokens.
pub fn run(calls: &[Call], w: &Weights, m: &mut Memory, n: usize) {
    run_with(Twins::Vectorised, calls, w, m, n);
}

/// Runs a list of calls on a segment of `n` tokens with a chosen twin of the matrix products.
pub fn run_with(twins: Twins, calls: &[Call], w: &Weights, m: &mut Memory, n: usize) {
    on_a_worker(|| calls.iter().for_each(|call| step(twins, call, w, m, n)));
}

/// As [`run`], but gives way after every call: dropped there, it leaves the memory as it is between two calls.
pub(crate) async fn run_giving_way(calls: &[Call], w: &Weights, m: &mut Memory, n: usize) {
    for call in calls {
        on_a_worker(|| step(Twins::Vectorised, call, w, m, n));
        give_way().await;
    }
}

fn step(twins: Twins, call: &Call, w: &Weights, m: &mut Memory, n: usize) {
    match call {
        Call::Embed(c) => embed(c, w, m),
        Call::RmsNorm(c) => {
            let cols = c.x.cols as usize;
            m.write(c.out.buffer, |m, out| {
                let x = &m.f32(c.x.buffer)[..n * cols];
                reference::rms_norm(x, &w.f32(c.norm)[..cols], c.eps, cols, 1, &mut out[..n * cols]);
            });
        }
        Call::Concat(c) => m.write(c.out.buffer, |m, out| {
            let cols = |rows: Rows| rows.cols as usize;
            let b = c.b.map_or(&[][..], |b| m.f32(b.buffer));
            let out = &mut out[..n * cols(c.out)];
            reference::concat(m.f32(c.a.buffer), cols(c.a), b, c.b.map_or(0, cols), out);
        }),
        Call::Geglu(c) => m.write(c.out.buffer, |m, out| {
            let used = n * c.out.cols as usize;
            reference::geglu(&m.f32(c.x.buffer)[..2 * used], &mut out[..used]);
        }),
        Call::RmsNormGated(c) => {
            let cols = c.y.cols as usize;
            let (z_cols, z_at) = (c.z.cols as usize, c.z_at as usize);
            m.write(c.out.buffer, |m, out| {
                let (y, z) = (&m.f32(c.y.buffer)[..n * cols], &m.f32(c.z.buffer)[..n * z_cols]);
                let (norm, groups) = (c.norm.map_or(&[][..], |v| w.f32(v)), c.groups as usize);
                let out = &mut out[..n * cols];
                let z = &scaled(z, c.z_scale);
                let rms_norm_gated = match twins {
                    Twins::Vectorised => rows::rms_norm_gated,
                    Twins::Plain => reference::rms_norm_gated,
                };
                rms_norm_gated(y, z, z_cols, z_at, norm, c.eps, cols, groups, c.mode, out);
            });
        }
        Call::Matvec(c) => matvec(twins, c, w, m),
        Call::Matmul(c) => matmul(twins, c, w, m),
        Call::MixerUpdate(c) => mixer_update(twins, c, w, m),
        Call::TokenGateKv(c) => token_gate_kv(twins, c, w, m),
        Call::Experts(c) => experts(c, w, m, n),
        Call::LogitMaxima(c) => logit_maxima(c, m),
        Call::Sample(c) => sample(c, m),
        _ => prefill::step(twins, call, w, m, n),
    }
}

/// `(position of the segment's first token, tokens of the segment)`.
fn span(m: &Memory, control: BufferId) -> (usize, usize) {
    (m.first(control), m.tokens(control))
}

fn embed(c: &Embed, w: &Weights, m: &mut Memory) {
    let n = m.tokens(c.control);
    let ids = m.u32(c.ids)[..n].to_vec();
    let cols = c.hidden.cols as usize;
    // The rows in question, unpacked, are the table.
    let table = &w.matrices[c.table.id as usize];
    let mut rows = vec![0.0; n * cols];
    rows.chunks_exact_mut(cols).zip(&ids).for_each(|(out, id)| table.row(*id as usize, out));
    let places: Vec<u32> = (0..n as u32).collect();
    m.write(c.hidden.buffer, |_, hidden| {
        reference::embed(&rows, cols, &places, c.scale, &mut hidden[..n * cols]);
    });
    let consumed = m.u32(c.control)[control::CONSUMED];
    // In this order the positions do not step past the last one, which may be that of all u32.
    for (id, position) in ids.iter().zip(consumed..) {
        m.u32_mut(c.recent)[position as usize % RECENT] = *id;
    }
    m.u32_mut(c.control)[control::CONSUMED] = consumed + n as u32;
}

/// Applies an epilogue to one row: `v` is the product, `y` the row it goes to.
fn finish(epilogue: Epilogue, alpha: f32, v: &[f32], y: &mut [f32]) {
    match epilogue {
        Epilogue::Store => y.copy_from_slice(v),
        Epilogue::Add(scale) => y.iter_mut().zip(v).for_each(|(y, v)| *y += scale * v),
        Epilogue::Mix => reference::mix_back(v, v.len(), &[alpha], &[0], y),
        Epilogue::Swiglu(1.0) => reference::swiglu(v, y.len(), y),
        Epilogue::Swiglu(scale) => {
            let scaled: Vec<f32> = v.chunks_exact(2).flat_map(|v| [scale * v[0], v[1]]).collect();
            reference::swiglu(&scaled, y.len(), y);
        }
        Epilogue::Relu2 => y.iter_mut().zip(v).for_each(|(y, v)| *y = reference::relu2(f64::from(*v)) as f32),
    }
}

/// A factor of 1 costs no copy.
fn scaled(x: &[f32], factor: f32) -> Cow<'_, [f32]> {
    if factor == 1.0 { Cow::Borrowed(x) } else { x.iter().map(|x| factor * x).collect() }
}

fn add_bias(bias: Option<Vector>, w: &Weights, v: &mut [f32]) {
    if let Some(bias) = bias {
        let bias = w.f32(bias);
        for row in v.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
        }
    }
}

fn alphas(selection: &[u32]) -> Vec<f32> {
    let capacity = (selection.len() - selection::HEADER) / 3;
    selection[selection::alphas()..][..capacity].iter().map(|b| f32::from_bits(*b)).collect()
}

fn matvec(twins: Twins, c: &Matvec, w: &Weights, m: &mut Memory) {
    let selection = c.selection.map(|s| m.u32(s));
    if c.only_selected && selection.is_some_and(|s| s[selection::COUNT] == 0) {
        return;
    }
    let alpha = selection.map_or(0.0, |s| f32::from_bits(s[selection::alphas()]));
    let (rows, cols) = (c.weight.rows as usize, c.weight.cols as usize);
    let last = m.tokens(c.control) - 1;
    let mut x = m.f32(c.x.buffer)[last * cols..(last + 1) * cols].to_vec();
    if let Some(norm) = c.norm {
        let mut normed = vec![0.0; cols];
        reference::rms_norm(&x, &w.f32(norm.weight)[..cols], norm.eps, cols, norm.groups as usize, &mut normed);
        x = normed;
    }
    let mut v = vec![0.0; rows];
    twins.matvec(&x, &w.matrices[c.weight.id as usize], &mut v);
    add_bias(c.bias, w, &mut v);
    let y_cols = c.y.cols as usize;
    m.write(c.y.buffer, |_, y| finish(c.epilogue, alpha, &v, &mut y[..y_cols]));
}

/// For each row of a product, the row of x it reads and the row of y it writes.
fn product_rows(c: &Matmul, m: &Memory) -> Vec<(usize, usize)> {
    let n = m.tokens(c.control);
    let chosen = |s: &[u32], capacity: usize| -> Vec<usize> {
        let indices = &s[selection::indices(capacity)..][..s[selection::COUNT] as usize];
        indices.iter().map(|i| *i as usize).collect()
    };
    match (c.over, c.selected) {
        (Over::Tokens { first, most }, _) => {
            let first = first as usize;
            (first..n.min(first + most as usize)).map(|t| (t, t - first)).collect()
        }
        (over, Some(s)) => {
            let rows = chosen(m.u32(s.selection), s.capacity as usize);
            let pair = |(i, t)| if over == Over::Gather { (t, i) } else { (i, t) };
            rows.into_iter().enumerate().map(pair).collect()
        }
        (_, None) => panic!("matmul: gather and scatter need a selection"),
    }
}

fn matmul(twins: Twins, c: &Matmul, w: &Weights, m: &mut Memory) {
    let (rows, cols, y_cols) = (c.weight.rows as usize, c.weight.cols as usize, c.y.cols as usize);
    let pairs = product_rows(c, m);
    let mut x = Vec::with_capacity(pairs.len() * cols);
    pairs.iter().for_each(|(from, _)| x.extend_from_slice(&m.f32(c.x.buffer)[from * cols..(from + 1) * cols]));
    let mut v = vec![0.0; pairs.len() * rows];
    twins.matmul(&x, &w.matrices[c.weight.id as usize], &mut v);
    add_bias(c.bias, w, &mut v);
    let alpha = c.selected.map_or_else(Vec::new, |s| alphas(m.u32(s.selection)));
    m.write(c.y.buffer, |_, y| {
        for ((_, to), v) in pairs.iter().zip(v.chunks_exact(rows)) {
            let alpha = alpha.get(*to).copied().unwrap_or(0.0);
            finish(c.epilogue, alpha, v, &mut y[to * y_cols..(to + 1) * y_cols]);
        }
    });
}

fn experts(c: &Experts, w: &Weights, m: &mut Memory, n: usize) {
    let (rows, cols, top) = (c.rows as usize, c.weight.cols as usize, c.top as usize);
    let packed = &w.matrices[c.weight.id as usize];
    let matrix = |expert: usize| {
        let mut dense = vec![0.0; rows * cols];
        dense.chunks_exact_mut(cols).zip(expert * rows..).for_each(|(row, at)| packed.row(at, row));
        dense
    };
    m.write(c.y.buffer, |m, y| {
        let routes = &m.u32(c.routes)[..2 * n * top];
        reference::experts(c.projection, cols, top, m.f32(c.x.buffer), routes, matrix, c.y.cols as usize, y);
    });
}

fn mixer_update(twins: Twins, c: &MixerUpdate, w: &Weights, m: &mut Memory) {
    let k = &c.mixer;
    let (inner, channels, heads) = (k.inner() as usize, k.channels() as usize, k.heads as usize);
    let gn = (k.groups * k.d_state) as usize;
    let first = m.first(c.control);
    let raw = m.f32(c.projected.buffer)[..k.projected() as usize].to_vec();
    let conv = k.convolution().reference(c.projected);
    let (weight, bias) = w.f32(k.conv).split_at(channels * conv.taps);
    let mut xbc = vec![0.0; channels];
    m.write(c.conv_state, |_, state| {
        let causal_conv1d = match twins {
            Twins::Vectorised => rows::causal_conv1d,
            Twins::Plain => reference::causal_conv1d,
        };
        causal_conv1d(&raw, &conv, weight, bias, state, first, 1, &mut xbc);
        reference::conv_append(&raw, &conv, first, 1, state);
    });
    let mut y = vec![0.0; inner];
    let (x, bc) = xbc.split_at(inner);
    let dt_raw = &scaled(&raw[k.dt_at() as usize..], k.dt_scale);
    m.write(c.ssm, |_, ssm| {
        let heads = per_head(w.f32(k.per_head), heads);
        let update = match twins {
            Twins::Vectorised => ssd::selective_state_update,
            Twins::Plain => reference::selective_state_update,
        };
        update(&k.ssm(), &heads, x, &bc[..gn], &bc[gn..], dt_raw, ssm, &mut y);
    });
    if c.gate {
        let z = scaled(&raw[..inner], k.z_scale);
        match twins {
            Twins::Vectorised => rows::gate(&z, &mut y),
            Twins::Plain => reference::gate(&z, &mut y),
        }
    }
    m.write(c.y.buffer, |_, out| out[..inner].copy_from_slice(&y));
}

fn per_head(packed: &[f32], heads: usize) -> Heads<'_> {
    Heads { dt_bias: &packed[..heads], a_log: &packed[heads..2 * heads], d: &packed[2 * heads..] }
}

fn token_gate_kv(twins: Twins, c: &TokenGateKv, w: &Weights, m: &mut Memory) {
    let cols = c.weight.cols as usize;
    let position = m.first(c.control);
    let pack = w.f32(c.gate);
    let mut x = vec![0.0; cols];
    reference::rms_norm(&m.f32(c.hidden.buffer)[..cols], &pack[..cols], c.eps, cols, 1, &mut x);
    let (mut alpha, mut wants) = ([0.0], [0]);
    reference::token_gate(&x, &pack[cols..3 * cols], &pack[3 * cols..], cols, &mut alpha, &mut wants);
    let capacity = c.capacity as usize;
    let (mut mask, mut index) = ([0], [0]);
    let mut count = 0;
    m.write_words(c.sal, |_, sal| count = reference::compact(&wants, sal, &mut mask, &mut index));
    m.write_words(c.selection, |_, s| {
        s[selection::COUNT] = count as u32;
        s[selection::alphas()] = alpha[0].to_bits();
        s[selection::masks(capacity)] = mask[0];
        s[selection::indices(capacity)] = 0;
    });
    let a = &c.attention;
    let kv_cols = a.kv_cols() as usize;
    let mut kv = vec![0.0; kv_cols];
    twins.matvec(&x, &w.matrices[c.weight.id as usize], &mut kv);
    if c.table.is_some() {
        let (heads, head_dim) = (a.kv_heads as usize, a.head_dim as usize);
        reference::rotary(&mut kv, heads, head_dim, w.words(c.table), position as u32);
    }
    m.write(c.ring, |_, ring| reference::kv_append(&kv, kv_cols, a.window as usize, position, 1, ring));
}

/// The options buffer as the twin takes it.
fn sampling(options: &[u32]) -> Sampling {
    let f = |i: usize| f32::from_bits(options[i]);
    Sampling {
        seed: u64::from(options[sampler::SEED_LO]) | u64::from(options[sampler::SEED_HI]) << 32,
        temperature: f(sampler::TEMPERATURE),
        top_k: options[sampler::TOP_K],
        top_p: f(sampler::TOP_P),
        min_p: f(sampler::MIN_P_LOG).exp(),
        repeat_penalty: f(sampler::PENALTY),
        repeat_last_n: options[sampler::LAST_N],
    }
}

fn sample(c: &Sample, m: &mut Memory) {
    let Rows { buffer, cols } = c.logits;
    let mut logits = m.f32(buffer)[..cols as usize].to_vec();
    let consumed = m.u32(c.control)[control::CONSUMED];
    let id = reference::sample(&sampling(m.u32(c.options)), &mut logits, m.u32(c.recent), consumed);
    m.u32_mut(c.ids)[0] = id;
}

fn logit_maxima(c: &LogitMaxima, m: &mut Memory) {
    let Rows { buffer, cols } = c.logits;
    let mut logits = m.f32(buffer)[..cols as usize].to_vec();
    let consumed = m.u32(c.control)[control::CONSUMED];
    let s = sampling(m.u32(c.options));
    let (width, parts) = (LogitMaxima::WIDTH as usize, LogitMaxima::parts(cols) as usize);
    let maxima = reference::logit_maxima(&s, &mut logits, m.u32(c.recent), consumed, width, parts);
    m.u32_mut(c.maxima)[..2 * parts].copy_from_slice(&maxima);
    if s.repeat_penalty != 1.0 {
        m.write(c.adjusted, |_, adjusted| adjusted[..cols as usize].copy_from_slice(&logits));
    }
}
