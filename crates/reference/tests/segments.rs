//! Properties that tie kernels together: the chunked form is the recurrence, and text may be cut anywhere.

#[path = "../src/testing.rs"]
mod testing;

use taipan_reference::{
    Attention, Conv, Heads, Ssm, bmm_chunk, causal_conv1d, chunk_cumsum, chunk_scan, chunk_state, conv_append,
    kv_append, rotary, rotary_table, selective_state_update, state_passing, window_attention,
};
use testing::{Random, assert_close};

/// A mixer with inputs for `n` tokens.
struct Mixer {
    shape: Ssm,
    dt_bias: Vec<f32>,
    a_log: Vec<f32>,
    d: Vec<f32>,
    xbc: Vec<f32>,
    dt_raw: Vec<f32>,
    entry: Vec<f32>,
}

impl Mixer {
    fn new(shape: Ssm, n: usize, random: &mut Random) -> Self {
        let mut each = |lo, hi| (0..shape.heads).map(|_| random.between(lo, hi)).collect();
        let (dt_bias, a_log, d) = (each(-4.0, 0.5), each(0.0, 2.8), each(0.5, 1.5));
        Self {
            dt_bias,
            a_log,
            d,
            xbc: random.values(n * shape.row()),
            dt_raw: (0..n * shape.heads).map(|_| random.between(-3.0, 3.0)).collect(),
            entry: random.values(shape.inner() * shape.d_state),
            shape,
        }
    }

    fn heads(&self) -> Heads<'_> {
        Heads { dt_bias: &self.dt_bias, a_log: &self.a_log, d: &self.d }
    }

    fn recurrent(&self, tokens: std::ops::Range<usize>, state: &mut [f32]) -> Vec<f32> {
        let (s, bc) = (&self.shape, self.shape.groups * self.shape.d_state);
        let mut y = vec![f32::NAN; tokens.len() * s.inner()];
        for (t, y) in tokens.zip(y.chunks_exact_mut(s.inner())) {
            let row = &self.xbc[t * s.row()..][..s.row()];
            let (x, rest) = row.split_at(s.inner());
            let (b, c) = rest.split_at(bc);
            let raw = &self.dt_raw[t * s.heads..][..s.heads];
            selective_state_update(s, &self.heads(), x, b, c, raw, state, y);
        }
        y
    }

    fn chunked(&self, q: usize, tokens: std::ops::Range<usize>, state: &mut [f32]) -> Vec<f32> {
        let (s, n) = (&self.shape, tokens.len());
        let xbc = &self.xbc[tokens.start * s.row()..];
        let raw = &self.dt_raw[tokens.start * s.heads..];
        let chunks = n.div_ceil(q);
        let mut da = vec![f32::NAN; n * 4 * s.heads];
        let mut cb = vec![f32::NAN; chunks * s.groups * q * q];
        let mut states = vec![f32::NAN; chunks * state.len()];
        let mut y = vec![f32::NAN; n * s.inner()];
        chunk_cumsum(s, &self.heads(), q, raw, s.heads, 0, n, &mut da);
        bmm_chunk(s, q, xbc, n, &mut cb);
        chunk_state(s, q, xbc, &da, n, &mut states);
        state_passing(s, q, &da, n, &mut states, state);
        chunk_scan(s, q, &self.d, xbc, &da, &cb, &states, n, &mut y);
        y
    }
}

fn shapes() -> [Ssm; 4] {
    let open = (0.0, f32::INFINITY);
    [
        Ssm { heads: 1, head_dim: 1, groups: 1, d_state: 1, dt_limit: open },
        Ssm { heads: 3, head_dim: 4, groups: 1, d_state: 16, dt_limit: open },
        Ssm { heads: 4, head_dim: 5, groups: 2, d_state: 7, dt_limit: (0.001, 0.2) },
        Ssm { heads: 4, head_dim: 2, groups: 4, d_state: 9, dt_limit: (0.0, 1.0) },
    ]
}

#[test]
fn any_chunk_length_is_the_recurrence() {
    let mut random = Random::new(100);
    for shape in shapes() {
        for n in [1, 2, 13, 16, 17, 33, 64] {
            let mixer = Mixer::new(shape, n, &mut random);
            let mut exit = mixer.entry.clone();
            let y = mixer.recurrent(0..n, &mut exit);
            for q in [1, 2, 3, 5, 8, 16, 31, 64, 256] {
                let mut state = mixer.entry.clone();
                assert_close(&mixer.chunked(q, 0..n, &mut state), &y, 1e-5);
                assert_close(&state, &exit, 1e-5);
            }
        }
    }
}

#[test]
fn a_scan_cut_anywhere_is_whole() {
    let mut random = Random::new(101);
    let n = 37;
    for shape in shapes() {
        let mixer = Mixer::new(shape, n, &mut random);
        let mut exit = mixer.entry.clone();
        let y = mixer.recurrent(0..n, &mut exit);
        for cut in 1..n {
            let mut state = mixer.entry.clone();
            let mut parts = mixer.chunked(8, 0..cut, &mut state);
            // The rest half in chunks and half token by token: prefill, more prefill, decode.
            let middle = cut + (n - cut) / 2;
            if middle > cut {
                parts.extend(mixer.chunked(5, cut..middle, &mut state));
            }
            parts.extend(mixer.recurrent(middle..n, &mut state));
            assert_close(&parts, &y, 1e-5);
            assert_close(&state, &exit, 1e-5);
        }
    }
}

#[test]
fn long_chunks_with_strong_decay_keep_the_tolerance() {
    // Prefixes reach −thousands: differences of them would have no digits left.
    let mut random = Random::new(102);
    let shape = Ssm { heads: 2, head_dim: 4, groups: 1, d_state: 8, dt_limit: (0.0, f32::INFINITY) };
    let n = 300;
    let mut mixer = Mixer::new(shape, n, &mut random);
    mixer.dt_bias.fill(1.0);
    mixer.a_log = vec![16f32.ln(), 0.01f32.ln()];
    let mut exit = mixer.entry.clone();
    let y = mixer.recurrent(0..n, &mut exit);
    for q in [64, 256, 300] {
        let mut state = mixer.entry.clone();
        assert_close(&mixer.chunked(q, 0..n, &mut state), &y, 1e-5);
        assert_close(&state, &exit, 1e-5);
    }
}

/// Segment lengths that add up to `n`, short ones likely.
fn random_cuts(random: &mut Random, n: usize) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut left = n;
    while left > 0 {
        let longest = [1, 3, 9, left][random.below(4)].min(left);
        lengths.push(1 + random.below(longest));
        left -= lengths[lengths.len() - 1];
    }
    lengths
}

#[test]
fn a_convolution_cut_anywhere_is_whole() {
    let mut random = Random::new(103);
    let n = 23;
    for taps in 1..=5 {
        let c = Conv { channels: 3, taps, stride: 5, offset: 2, silu: true };
        let src = random.values(n * c.stride);
        let (weight, bias) = (random.values(c.channels * taps), random.values(c.channels));
        let empty = vec![0.0; taps * c.channels];
        let mut whole = vec![f32::NAN; n * c.channels];
        causal_conv1d(&src, &c, &weight, &bias, &empty, 0, n, &mut whole);
        for _ in 0..40 {
            let (mut state, mut parts, mut first) = (empty.clone(), Vec::new(), 0);
            for length in random_cuts(&mut random, n) {
                let src = &src[first * c.stride..];
                let mut out = vec![f32::NAN; length * c.channels];
                causal_conv1d(src, &c, &weight, &bias, &state, first, length, &mut out);
                conv_append(src, &c, first, length, &mut state);
                parts.extend(out);
                first += length;
            }
            assert_eq!(parts, whole, "taps {taps}");
        }
    }
}

/// Attention of every token over whole sequences: f64 and no ring.
fn brute_force(a: &Attention, q: &[f32], kv: &[f32]) -> Vec<f32> {
    let (width, cols) = (a.heads * a.head_dim, 2 * a.kv_heads * a.head_dim);
    let mut out = vec![0.0; q.len()];
    for (i, row) in q.chunks_exact(width).enumerate() {
        for h in 0..a.heads {
            let key_at = h * a.kv_heads / a.heads * a.head_dim;
            let value_at = key_at + cols / 2;
            let (mut total, mut mix) = (0.0, vec![0.0; a.head_dim]);
            for j in (0..=i).filter(|j| i - j < a.window) {
                let mut score = 0.0;
                for e in 0..a.head_dim {
                    score += f64::from(row[h * a.head_dim + e] * a.scale) * f64::from(kv[j * cols + key_at + e]);
                }
                total += score.exp();
                for (e, m) in mix.iter_mut().enumerate() {
                    *m += score.exp() * f64::from(kv[j * cols + value_at + e]);
                }
            }
            for (e, m) in mix.iter().enumerate() {
                out[i * width + h * a.head_dim + e] = (m / total) as f32;
            }
        }
    }
    out
}

#[test]
fn attention_through_the_ring_is_brute_force() {
    let mut random = Random::new(104);
    let n = 29;
    for window in [1, 2, 5, 8, 28, 64] {
        for (heads, kv_heads, table) in [(1, 1, vec![]), (4, 2, vec![]), (3, 1, rotary_table(100.0, 6))] {
            let a = Attention { heads, kv_heads, head_dim: 6, window, scale: 0.5 };
            let q = random.values(n * heads * 6);
            let mut kv = random.values(n * 2 * kv_heads * 6);
            let mut turned = q.clone();
            if !table.is_empty() {
                for t in 0..n {
                    rotary(&mut kv[t * 2 * kv_heads * 6..], kv_heads, 6, &table, t as u32);
                    rotary(&mut turned[t * heads * 6..], heads, 6, &table, t as u32);
                }
            }
            let expected = brute_force(&a, &turned, &kv);
            for _ in 0..10 {
                let cuts = random_cuts(&mut random, n);
                let got = in_segments(&a, &q, &kv, &table, &cuts, &mut random);
                assert_close(&got, &expected, 1e-6);
            }
        }
    }
}

/// Runs the segments in turn, single tokens either as a segment or as decode (the ring already holds them).
fn in_segments(a: &Attention, q: &[f32], kv: &[f32], table: &[u32], cuts: &[usize], random: &mut Random) -> Vec<f32> {
    let (width, cols) = (a.heads * a.head_dim, 2 * a.kv_heads * a.head_dim);
    // Slots that were never written must never be read.
    let mut ring = vec![f32::NAN; a.window * cols];
    let (mut out, mut first) = (vec![f32::NAN; q.len()], 0);
    for &n in cuts {
        let (kv, q) = (&kv[first * cols..][..n * cols], &q[first * width..][..n * width]);
        let out = &mut out[first * width..][..n * width];
        let indices: Vec<u32> = (0..n as u32).collect();
        if n == 1 && random.below(2) == 0 {
            kv_append(kv, cols, a.window, first, n, &mut ring);
            window_attention(a, q, &[], &ring, table, &indices, first, false, out);
        } else {
            window_attention(a, q, kv, &ring, table, &indices, first, true, out);
            kv_append(kv, cols, a.window, first, n, &mut ring);
        }
        first += n;
    }
    out
}
