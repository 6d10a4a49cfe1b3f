//! The CPU device, continued: calls that only a prefill makes, one twin each.

use taipan_kernels::{Call, Compact, MergeAttention, TokenAttention, TokenGate, WindowAttention, selection};
use taipan_reference as reference;

use super::{Memory, Twins, Weights, per_head, rows, span, ssd};

/// Runs one call on a segment of `n` tokens.
pub(super) fn step(twins: Twins, call: &Call, w: &Weights, m: &mut Memory, n: usize) {
    match call {
        Call::CausalConv1d(c) => {
            let conv = c.conv.reference(c.raw);
            let (weight, bias) = w.f32(c.conv.weights).split_at(conv.channels * conv.taps);
            let (first, n) = span(m, c.control);
            m.write(c.out.buffer, |m, out| {
                let out = &mut out[..n * conv.channels];
                let causal_conv1d = match twins {
                    Twins::Vectorised => rows::causal_conv1d,
                    Twins::Plain => reference::causal_conv1d,
                };
                causal_conv1d(m.f32(c.raw.buffer), &conv, weight, bias, m.f32(c.conv_state), first, n, out);
            });
        }
        Call::ConvAppend(c) => {
            let (first, n) = span(m, c.control);
            m.write(c.conv_state, |m, state| {
                reference::conv_append(m.f32(c.raw.buffer), &c.conv.reference(c.raw), first, n, state);
            });
        }
        Call::ChunkCumsum(_) | Call::BmmChunk(_) | Call::ChunkState(_) | Call::StatePassing(_) | Call::ChunkScan(_) => {
            chunked(twins, call, w, m)
        }
        Call::TokenGate(c) => token_gate(c, w, m, n),
        Call::Compact(c) => compact(c, m),
        Call::Rotary(c) => {
            let (first, n) = span(m, c.control);
            let cols = c.kv.cols as usize;
            m.write(c.kv.buffer, |_, kv| {
                for (position, row) in (first..).zip(kv[..n * cols].chunks_exact_mut(cols)) {
                    let (heads, head_dim) = (c.heads as usize, c.head_dim as usize);
                    reference::rotary(row, heads, head_dim, w.words(Some(c.table)), position as u32);
                }
            });
        }
        Call::WindowAttention(c) => window_attention(c, w, m),
        Call::TokenAttention(c) => token_attention(c, w, m),
        Call::MergeAttention(c) => merge_attention(c, m),
        Call::Route(c) => {
            let (used, routes) = (n * c.logits.cols as usize, n * 2 * c.routing.top);
            m.write_words(c.routes, |m, out| {
                let correction = c.correction.map_or(&[][..], |v| w.f32(v));
                reference::route(&c.routing, &m.f32(c.logits.buffer)[..used], correction, &mut out[..routes]);
            });
        }
        Call::KvAppend(c) => {
            let (first, n) = span(m, c.control);
            let cols = c.kv.cols as usize;
            m.write(c.ring, |m, ring| {
                reference::kv_append(&m.f32(c.kv.buffer)[..n * cols], cols, c.window as usize, first, n, ring);
            });
        }
        _ => unreachable!("{call:?} is run by `cpu::step`"),
    }
}

fn chunked(twins: Twins, call: &Call, w: &Weights, m: &mut Memory) {
    match call {
        Call::ChunkCumsum(c) => {
            let (_, n) = span(m, c.control);
            let heads = per_head(w.f32(c.mixer.per_head), c.mixer.heads as usize);
            let (stride, offset) = (c.raw.cols as usize, c.mixer.dt_at() as usize);
            m.write(c.da.buffer, |m, da| {
                let (s, q) = (c.mixer.ssm(), c.chunk as usize);
                let raw = super::scaled(m.f32(c.raw.buffer), c.mixer.dt_scale);
                reference::chunk_cumsum(&s, &heads, q, &raw, stride, offset, n, da);
            });
        }
        Call::BmmChunk(c) => {
            let (_, n) = span(m, c.control);
            m.write(c.cb.buffer, |m, cb| {
                let bmm_chunk = match twins {
                    Twins::Vectorised => ssd::bmm_chunk,
                    Twins::Plain => reference::bmm_chunk,
                };
                bmm_chunk(&c.mixer.ssm(), c.chunk as usize, m.f32(c.xbc.buffer), n, cb);
            });
        }
        Call::ChunkState(c) => {
            let (_, n) = span(m, c.control);
            m.write(c.states.buffer, |m, states| {
                let (xbc, da) = (m.f32(c.xbc.buffer), m.f32(c.da.buffer));
                let chunk_state = match twins {
                    Twins::Vectorised => ssd::chunk_state,
                    Twins::Plain => reference::chunk_state,
                };
                chunk_state(&c.mixer.ssm(), c.chunk as usize, xbc, da, n, states);
            });
        }
        Call::StatePassing(c) => {
            let (_, n) = span(m, c.control);
            let mut ssm = m.f32(c.ssm).to_vec();
            m.write(c.states.buffer, |m, states| {
                let da = m.f32(c.da.buffer);
                reference::state_passing(&c.mixer.ssm(), c.chunk as usize, da, n, states, &mut ssm);
            });
            m.write(c.ssm, |_, out| *out = ssm);
        }
        Call::ChunkScan(c) => {
            let (_, n) = span(m, c.control);
            let heads = per_head(w.f32(c.mixer.per_head), c.mixer.heads as usize);
            m.write(c.y.buffer, |m, y| {
                let (xbc, da) = (m.f32(c.xbc.buffer), m.f32(c.da.buffer));
                let (cb, states) = (m.f32(c.cb.buffer), m.f32(c.states.buffer));
                let chunk_scan = match twins {
                    Twins::Vectorised => ssd::chunk_scan,
                    Twins::Plain => reference::chunk_scan,
                };
                chunk_scan(&c.mixer.ssm(), c.chunk as usize, heads.d, xbc, da, cb, states, n, y);
            });
        }
        _ => unreachable!("{call:?} is not part of the chunked form"),
    }
}

fn token_gate(c: &TokenGate, w: &Weights, m: &mut Memory, n: usize) {
    let (cols, capacity) = (c.x.cols as usize, c.capacity as usize);
    let pack = w.f32(c.gate);
    let (mut alpha, mut wants) = (vec![0.0; n], vec![0; n]);
    let x = &m.f32(c.x.buffer)[..n * cols];
    reference::token_gate(x, &pack[cols..3 * cols], &pack[3 * cols..], cols, &mut alpha, &mut wants);
    m.write_words(c.selection, |_, s| {
        for (t, (alpha, wants)) in alpha.iter().zip(&wants).enumerate() {
            s[selection::alphas() + t] = alpha.to_bits();
            s[selection::masks(capacity) + t] = *wants;
        }
    });
}

fn compact(c: &Compact, m: &mut Memory) {
    let (_, n) = span(m, c.control);
    let capacity = c.capacity as usize;
    let wants = m.u32(c.selection)[selection::masks(capacity)..][..n].to_vec();
    let (mut mask, mut indices) = (vec![0; n], vec![0; n]);
    let mut count = 0;
    m.write_words(c.sal, |_, sal| count = reference::compact(&wants, sal, &mut mask, &mut indices));
    m.write_words(c.selection, |_, s| {
        s[selection::COUNT] = count as u32;
        s[selection::masks(capacity)..][..n].copy_from_slice(&mask);
        s[selection::indices(capacity)..][..count].copy_from_slice(&indices[..count]);
    });
    let tiles = (count as u32).div_ceil(64);
    let rows = [[tiles, c.q_tiles, 1], [c.heads, (count as u32).div_ceil(c.queries), 1], [tiles, c.o_tiles, 1]];
    m.write_words(c.args, |_, args| {
        for (args, row) in args.chunks_exact_mut(4).zip(rows) {
            args[..3].copy_from_slice(&row);
        }
    });
}

fn window_attention(c: &WindowAttention, w: &Weights, m: &mut Memory) {
    let (first, n) = span(m, c.control);
    let indices = match c.selected {
        None => (0..n as u32).collect(),
        Some(selected) => {
            let s = m.u32(selected.selection);
            s[selection::indices(selected.capacity as usize)..][..s[selection::COUNT] as usize].to_vec()
        }
    };
    let used = indices.len() * c.attention.q_cols() as usize;
    let table = w.words(c.table);
    m.write(c.out.buffer, |m, out| {
        let (q, kv, ring) = (&m.f32(c.q.buffer)[..used], m.f32(c.kv.buffer), m.f32(c.ring));
        let a = c.attention.reference();
        reference::window_attention(&a, q, kv, ring, table, &indices, first, true, &mut out[..used]);
    });
}

fn token_attention(c: &TokenAttention, w: &Weights, m: &mut Memory) {
    if c.selection.is_some_and(|id| m.u32(id)[selection::COUNT] == 0) {
        return;
    }
    let (first, _) = span(m, c.control);
    let (used, table) = (c.attention.q_cols() as usize, w.words(c.table));
    m.write(c.out.buffer, |m, out| {
        let kv = c.kv.map_or(&[][..], |kv| m.f32(kv.buffer));
        let (q, ring, a) = (&m.f32(c.q.buffer)[..used], m.f32(c.ring), c.attention.reference());
        reference::window_attention(&a, q, kv, ring, table, &[0], first, c.kv.is_some(), &mut out[..used]);
    });
}

fn merge_attention(c: &MergeAttention, m: &mut Memory) {
    if c.selection.is_some_and(|id| m.u32(id)[selection::COUNT] == 0) {
        return;
    }
    let (heads, head_dim) = (c.attention.heads as usize, c.attention.head_dim as usize);
    m.write(c.out.buffer, |m, out| {
        reference::merge_attention(heads, head_dim, c.count as usize, m.f32(c.parts.buffer), out);
    });
}
