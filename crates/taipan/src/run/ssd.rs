//! The state-space recurrence of the CPU device: vectorised, on several threads, f32 sums. The plain twins in
//! `taipan-reference` are what it is tested against.
//!
//! The chunked form is products with panels, as those with weight matrices are: per chunk and head
//! `y = [exp(prefix)·C | decay·dt·C·Bᵀ] · [Sᵀ ; x]` and `S = (exp(suffix)·dt·x)ᵀ · B`. Source: arXiv 2405.21060, section 6.

#![allow(clippy::too_many_arguments, reason = "as its plain twin, a function takes what the kernel binds")]

use pulp::{Arch, Simd, WithSimd};
use taipan_reference::{self as reference, Heads, Ssm};

use super::dense::{PANEL, panel_times_rows};
use super::threads::for_each_chunk;

/// `da`, `[n, 4·H]`: what `chunk_cumsum` writes of one token and head.
#[derive(Clone, Copy)]
struct Decays<'a> {
    heads: usize,
    da: &'a [f32],
}

impl Decays<'_> {
    fn dt(&self, t: usize, h: usize) -> f32 {
        self.da[4 * t * self.heads + h]
    }

    fn step(&self, t: usize, h: usize) -> f32 {
        self.da[(4 * t + 1) * self.heads + h]
    }

    fn prefix(&self, t: usize, h: usize) -> f32 {
        self.da[(4 * t + 2) * self.heads + h]
    }

    fn suffix(&self, t: usize, h: usize) -> f32 {
        self.da[(4 * t + 3) * self.heads + h]
    }
}

/// See [`reference::selective_state_update`].
pub(super) fn selective_state_update(
    s: &Ssm,
    p: &Heads,
    x: &[f32],
    b: &[f32],
    c: &[f32],
    dt_raw: &[f32],
    state: &mut [f32],
    y: &mut [f32],
) {
    let (n, dim) = (s.d_state, s.head_dim);
    let mut da = vec![0.0; 4 * s.heads];
    reference::chunk_cumsum(s, p, 1, dt_raw, s.heads, 0, 1, &mut da);
    let decays = Decays { heads: s.heads, da: &da };
    let arch = Arch::new();
    let mut heads: Vec<_> = state.chunks_exact_mut(dim * n).zip(y.chunks_exact_mut(dim)).collect();
    for_each_chunk(&mut heads, 1, 4 * s.inner() * n, |h, head| {
        let group = s.group(h) * n..(s.group(h) + 1) * n;
        let [(state, y)] = head else { unreachable!("chunks of one") };
        let x = &x[h * dim..(h + 1) * dim];
        let (decay, dt, d) = (decays.step(0, h).exp(), decays.dt(0, h), p.d[h]);
        arch.dispatch(Update { decay, dt, d, x, b: &b[group.clone()], c: &c[group], state, y });
    });
}

/// One head, one token.
struct Update<'a> {
    decay: f32,
    dt: f32,
    d: f32,
    x: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    state: &'a mut [f32],
    y: &'a mut [f32],
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (b, b_rest) = S::as_simd_f32s(self.b);
        let (c, c_rest) = S::as_simd_f32s(self.c);
        let decay = simd.splat_f32s(self.decay);
        for ((row, x), y) in self.state.chunks_exact_mut(self.b.len()).zip(self.x).zip(self.y) {
            let input = self.dt * x;
            let inputs = simd.splat_f32s(input);
            let (row, rest) = S::as_mut_simd_f32s(row);
            let mut sum = simd.splat_f32s(0.0);
            for ((s, b), c) in row.iter_mut().zip(b).zip(c) {
                *s = simd.mul_add_e_f32s(inputs, *b, simd.mul_f32s(decay, *s));
                sum = simd.mul_add_e_f32s(*s, *c, sum);
            }
            let mut read = simd.reduce_sum_f32s(sum);
            for ((s, b), c) in rest.iter_mut().zip(b_rest).zip(c_rest) {
                *s = self.decay * *s + input * b;
                read += *s * c;
            }
            *y = read + self.d * x;
        }
    }
}

/// Columns `first …` of `rows` rows, as a panel: `panel[row][j]` is column `first + j`, zero past the last.
fn panel_of<'a>(rows: impl Iterator<Item = &'a [f32]>, first: usize) -> Vec<[f32; PANEL]> {
    rows.map(|row| {
        let mut out = [0.0; PANEL];
        let row = &row[first..row.len().min(first + PANEL)];
        out[..row.len()].copy_from_slice(row);
        out
    })
    .collect()
}

/// The same of the transposed matrix: `panel[column][j]` is row `first + j`.
fn transposed_into<'a>(rows: impl Iterator<Item = &'a [f32]>, panel: &mut [[f32; PANEL]]) {
    for (j, row) in rows.take(PANEL).enumerate() {
        panel.iter_mut().zip(row).for_each(|(column, v)| column[j] = *v);
    }
}

/// See [`reference::bmm_chunk`].
pub(super) fn bmm_chunk(s: &Ssm, q: usize, xbc: &[f32], n: usize, cb: &mut [f32]) {
    let blocks = n.div_ceil(q) * s.groups;
    for_each_chunk(&mut cb[..blocks * q * q], q * q, n * q * s.d_state * s.groups, |block, cb| {
        let (start, g) = (block / s.groups * q, block % s.groups);
        let len = q.min(n - start);
        let mut c = Vec::with_capacity(len * s.d_state);
        (start..start + len).for_each(|t| c.extend_from_slice(s.c(xbc, t, g)));
        let mut out = vec![[0.0; PANEL]; len];
        cb.fill(0.0);
        for first in (0..len).step_by(PANEL) {
            let mut panel = vec![[0.0; PANEL]; s.d_state];
            transposed_into((start + first..start + len).map(|t| s.b(xbc, t, g)), &mut panel);
            panel_times_rows(&panel, &c, &mut out);
            for (i, (cb, out)) in cb.chunks_exact_mut(q).zip(&out).enumerate().skip(first) {
                let end = (i + 1).min(first + PANEL);
                cb[first..end].copy_from_slice(&out[..end - first]);
            }
        }
    });
}

/// See [`reference::chunk_state`].
pub(super) fn chunk_state(s: &Ssm, q: usize, xbc: &[f32], da: &[f32], n: usize, states: &mut [f32]) {
    let (heads, width, tile) = (s.heads, s.d_state, s.head_dim * s.d_state);
    let decays = Decays { heads, da };
    let tiles = n.div_ceil(q) * heads;
    for_each_chunk(&mut states[..tiles * tile], tile, n * s.inner() * width, |index, states| {
        let (chunk, h) = (index / heads, index % heads);
        let tokens = chunk * q..((chunk + 1) * q).min(n);
        let weights: Vec<f32> = tokens.clone().map(|t| decays.suffix(t, h).exp() * decays.dt(t, h)).collect();
        // x of one channel after the other, `[P, tokens]`.
        let mut inputs = vec![0.0; s.head_dim * tokens.len()];
        for (i, (t, weight)) in tokens.clone().zip(&weights).enumerate() {
            let rows = inputs[i..].iter_mut().step_by(tokens.len());
            rows.zip(s.x(xbc, t, h)).for_each(|(input, x)| *input = weight * x);
        }
        let mut out = vec![[0.0; PANEL]; s.head_dim];
        for first in (0..width).step_by(PANEL) {
            let panel = panel_of(tokens.clone().map(|t| s.b(xbc, t, s.group(h))), first);
            panel_times_rows(&panel, &inputs, &mut out);
            for (state, out) in states.chunks_exact_mut(width).zip(&out) {
                let state = &mut state[first..width.min(first + PANEL)];
                state.copy_from_slice(&out[..state.len()]);
            }
        }
    });
}

/// See [`reference::chunk_scan`].
pub(super) fn chunk_scan(
    s: &Ssm,
    q: usize,
    d: &[f32],
    xbc: &[f32],
    da: &[f32],
    cb: &[f32],
    states: &[f32],
    n: usize,
    y: &mut [f32],
) {
    let (heads, dim, tile) = (s.heads, s.head_dim, s.head_dim * s.d_state);
    let (chunks, panels) = (n.div_ceil(q), dim.div_ceil(PANEL));
    let decays = Decays { heads, da };
    // A block `[panel, token]` for every chunk and head; the blocks are then put side by side.
    let mut blocks = vec![[0.0; PANEL]; chunks * heads * panels * q];
    for_each_chunk(&mut blocks, panels * q, n * s.inner() * (q + s.d_state), |index, out| {
        let (chunk, h) = (index / heads, index % heads);
        let tokens = chunk * q..((chunk + 1) * q).min(n);
        let g = s.group(h);
        let cb = &cb[(chunk * s.groups + g) * q * q..][..q * q];
        let rows = scan_rows(s, decays, tokens.clone(), h, g, xbc, cb, q);
        let entry = &states[index * tile..][..tile];
        for (first, out) in (0..dim).step_by(PANEL).zip(out.chunks_exact_mut(q)) {
            let mut panel = vec![[0.0; PANEL]; s.d_state];
            transposed_into(entry.chunks_exact(s.d_state).skip(first), &mut panel);
            panel.extend(panel_of(tokens.clone().map(|t| s.x(xbc, t, h)), first));
            panel_times_rows(&panel, &rows, &mut out[..tokens.len()]);
        }
    });
    for_each_chunk(&mut y[..n * s.inner()], s.inner(), n * s.inner(), |t, y| {
        for (h, y) in y.chunks_exact_mut(dim).enumerate() {
            let block = &blocks[((t / q) * heads + h) * panels * q..][..panels * q];
            let x = s.x(xbc, t, h);
            for (panel, (y, x)) in y.chunks_mut(PANEL).zip(x.chunks(PANEL)).enumerate() {
                let sums = &block[panel * q + t % q];
                y.iter_mut().zip(sums).zip(x).for_each(|((y, sum), x)| *y = sum + d[h] * x);
            }
        }
    });
}

/// What a chunk's states and tokens count for each of its tokens: rows `exp(prefix)·C | decay·dt·cb`, the latter of as many
/// columns as there are tokens.
fn scan_rows(
    s: &Ssm,
    decays: Decays,
    tokens: std::ops::Range<usize>,
    h: usize,
    g: usize,
    xbc: &[f32],
    cb: &[f32],
    q: usize,
) -> Vec<f32> {
    let (start, len) = (tokens.start, tokens.len());
    let steps: Vec<f64> = tokens.clone().map(|t| f64::from(decays.step(t, h)).exp()).collect();
    let cols = s.d_state + len;
    let mut rows = vec![0.0; len * cols];
    for (i, (row, t)) in rows.chunks_exact_mut(cols).zip(tokens).enumerate() {
        let (of_state, of_tokens) = row.split_at_mut(s.d_state);
        let decay = decays.prefix(t, h).exp();
        of_state.iter_mut().zip(s.c(xbc, t, g)).for_each(|(row, c)| *row = decay * c);
        // From the current token backwards: each step lengthens the segment by the token just passed.
        let mut segment = 1.0;
        for j in (0..=i).rev() {
            of_tokens[j] = (segment * f64::from(cb[i * q + j] * decays.dt(start + j, h))) as f32;
            segment *= steps[j];
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    /// State and y of a head of `n` numbers a channel after one token.
    fn updated(n: usize, run: impl FnOnce(Update<'_>)) -> Vec<f32> {
        let numbers = |seed, len| (0..len).map(|i| reference::uniform(seed, i as u32) - 0.5).collect::<Vec<f32>>();
        let (x, b, c, mut state, mut y) =
            (numbers(1, 3), numbers(2, n), numbers(3, n), numbers(4, 3 * n), vec![0.0; 3]);
        run(Update { decay: 0.9, dt: 0.3, d: 2.0, x: &x, b: &b, c: &c, state: &mut state, y: &mut y });
        let read = |p: usize| (0..n).map(|k| state[p * n + k] * c[k]).sum::<f32>() + 2.0 * x[p];
        assert!((0..3).all(|p| (y[p] - read(p)).abs() <= 1e-5), "{n}: {y:?}");
        state
    }

    #[test]
    fn every_vector_width_advances_a_state_alike() {
        for n in [1, 7, 16, 20, 64, 129] {
            let widest = updated(n, |update| Arch::new().dispatch(update));
            let alike = |other: Vec<f32>| widest.iter().zip(&other).all(|(a, b)| (a - b).abs() <= 1e-6);
            assert!(alike(updated(n, |update| update.with_simd(Scalar))), "{n}, one number at a time");
            #[cfg(target_arch = "x86_64")]
            if let Some(v3) = pulp::x86::V3::try_new() {
                assert!(alike(updated(n, |update| Simd::vectorize(v3, update))), "{n}, AVX2");
            }
        }
    }
}
