//! Matrix products of the CPU device: vectorised, on several threads, f32 sums over many lanes. The plain twins in
//! `taipan-reference` are what they are tested against.

use pulp::{Arch, Simd, WithSimd};

/// Rows of the matrix that share one pass over an input row.
const BLOCK: usize = 4;

/// Products below this many multiply-adds are not worth handing to another thread.
const PARALLEL: usize = 1 << 15;

/// Which twin of the matrix products runs. Everything else on the CPU is plain anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dense {
    /// [`matmul`] and [`matvec`] of this module: fast, f32 sums. The CPU device.
    #[default]
    Vectorised,
    /// Plain loops with f64 sums: the oracle that a model and its kernels are held to.
    Plain,
}

impl Dense {
    pub(super) fn matmul(self, x: &[f32], w: &[f32], rows: usize, cols: usize, y: &mut [f32]) {
        match self {
            Self::Vectorised => matmul(x, w, rows, cols, y),
            Self::Plain => taipan_reference::matmul(x, w, None, rows, cols, y),
        }
    }

    pub(super) fn matvec(self, x: &[f32], w: &[f32], y: &mut [f32]) {
        match self {
            Self::Vectorised => matvec(x, w, y),
            Self::Plain => taipan_reference::matvec(x, w, None, y),
        }
    }
}

/// `y[m, rows] = x[m, cols] · wᵀ`, w `[rows, cols]`.
pub fn matmul(x: &[f32], w: &[f32], rows: usize, cols: usize, y: &mut [f32]) {
    assert_eq!(w.len(), rows * cols, "matmul: elements of w");
    let m = x.len() / cols.max(1);
    assert_eq!(y.len(), m * rows, "matmul: elements of y");
    if m == 1 {
        return matvec(x, w, y);
    }
    let arch = Arch::new();
    // Work on the transposed result: a block of rows of w stays in cache while all inputs pass by it.
    let mut transposed = vec![0.0; m * rows];
    for_each_block(&mut transposed, BLOCK * m, m * rows * cols, |block, out| {
        let first = block * BLOCK;
        let count = out.len() / m;
        let w = &w[first * cols..(first + count) * cols];
        for i in 0..m {
            let mut sums = [0.0; BLOCK];
            arch.dispatch(Dot { w, x: &x[i * cols..(i + 1) * cols], sums: &mut sums });
            for r in 0..count {
                out[r * m + i] = sums[r];
            }
        }
    });
    for (i, row) in y.chunks_exact_mut(rows.max(1)).enumerate() {
        for (r, v) in row.iter_mut().enumerate() {
            *v = transposed[r * m + i];
        }
    }
}

/// `y[rows] = w · x`.
pub fn matvec(x: &[f32], w: &[f32], y: &mut [f32]) {
    let cols = x.len();
    assert_eq!(w.len(), y.len() * cols, "matvec: elements of w");
    let arch = Arch::new();
    let work = w.len();
    for_each_block(y, 64, work, |chunk, out| {
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let first = chunk * 64 + i * BLOCK;
            let mut sums = [0.0; BLOCK];
            arch.dispatch(Dot { w: &w[first * cols..(first + out.len()) * cols], x, sums: &mut sums });
            out.copy_from_slice(&sums[..out.len()]);
        }
    });
}

/// Runs `body(index, chunk)` over chunks of `out`, on several threads where the work is worth it.
fn for_each_block(out: &mut [f32], size: usize, work: usize, body: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if size == 0 {
        return;
    }
    #[cfg(not(target_arch = "wasm32"))]
    if work >= PARALLEL {
        use rayon::prelude::*;
        return out.par_chunks_mut(size).enumerate().for_each(|(i, chunk)| body(i, chunk));
    }
    let _ = (work, PARALLEL);
    out.chunks_mut(size).enumerate().for_each(|(i, chunk)| body(i, chunk));
}

/// Up to `BLOCK` dot products of consecutive rows of `w` with `x`.
struct Dot<'a> {
    w: &'a [f32],
    x: &'a [f32],
    sums: &'a mut [f32; BLOCK],
}

impl WithSimd for Dot<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let cols = self.x.len();
        if self.w.len() == BLOCK * cols {
            let (a, rest) = self.w.split_at(cols);
            let (b, rest) = rest.split_at(cols);
            let (c, d) = rest.split_at(cols);
            *self.sums = dot4(simd, self.x, [a, b, c, d]);
        } else {
            for (row, sum) in self.w.chunks_exact(cols.max(1)).zip(self.sums) {
                *sum = dot4(simd, self.x, [row; BLOCK])[0];
            }
        }
    }
}

#[inline(always)]
fn dot4<S: Simd>(simd: S, x: &[f32], rows: [&[f32]; BLOCK]) -> [f32; BLOCK] {
    let (x_head, x_tail) = S::as_simd_f32s(x);
    let [a, b, c, d] = rows.map(|row| S::as_simd_f32s(row));
    let zero = simd.splat_f32s(0.0);
    // Two accumulators a row: enough independent chains to keep the units busy.
    let mut sums = [[zero; BLOCK]; 2];
    let mut pairs = x_head.chunks_exact(2).enumerate();
    for (i, pair) in &mut pairs {
        for (half, &v) in pair.iter().enumerate() {
            let at = 2 * i + half;
            sums[half][0] = simd.mul_add_e_f32s(a.0[at], v, sums[half][0]);
            sums[half][1] = simd.mul_add_e_f32s(b.0[at], v, sums[half][1]);
            sums[half][2] = simd.mul_add_e_f32s(c.0[at], v, sums[half][2]);
            sums[half][3] = simd.mul_add_e_f32s(d.0[at], v, sums[half][3]);
        }
    }
    if x_head.len() % 2 == 1 {
        let at = x_head.len() - 1;
        for (sum, row) in sums[0].iter_mut().zip([a.0, b.0, c.0, d.0]) {
            *sum = simd.mul_add_e_f32s(row[at], x_head[at], *sum);
        }
    }
    let tails = [a.1, b.1, c.1, d.1];
    std::array::from_fn(|r| {
        let tail: f32 = tails[r].iter().zip(x_tail).map(|(w, x)| w * x).sum();
        simd.reduce_sum_f32s(simd.add_f32s(sums[0][r], sums[1][r])) + tail
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n).map(|i| taipan_reference::uniform(u64::from(seed), i as u32) * 2.0 - 1.0).collect()
    }

    #[test]
    fn agrees_with_the_plain_twin_at_every_shape() {
        for (m, rows, cols) in
            [(1, 1, 1), (1, 5, 3), (2, 4, 16), (3, 7, 33), (5, 130, 64), (65, 9, 257), (1, 2048, 100)]
        {
            let (x, w) = (numbers(m * cols, 1), numbers(rows * cols, 2));
            let (mut fast, mut plain) = (vec![0.0; m * rows], vec![0.0; m * rows]);
            matmul(&x, &w, rows, cols, &mut fast);
            taipan_reference::matmul(&x, &w, None, rows, cols, &mut plain);
            for (a, b) in fast.iter().zip(&plain) {
                assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{m}x{rows}x{cols}: {a} against {b}");
            }
        }
    }
}
