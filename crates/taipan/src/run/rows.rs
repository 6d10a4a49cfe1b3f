//! Convolution, gate and gated norm of the CPU device: vectorised, on several threads, f32. The plain twins in
//! `taipan-reference` are what they are tested against.

#![allow(clippy::too_many_arguments, reason = "as its plain twin, a function takes what the kernel binds")]

use pulp::{Arch, Simd, WithSimd};
use taipan_reference::{Conv, GateMode};

use super::threads::for_each_chunk;

/// Operations that a number takes which goes through an exponential function, as multiply-adds.
const GATE: usize = 16;

/// See [`taipan_reference::causal_conv1d`].
pub(super) fn causal_conv1d(
    src: &[f32],
    c: &Conv,
    weight: &[f32],
    bias: &[f32],
    state: &[f32],
    first: usize,
    n: usize,
    out: &mut [f32],
) {
    let arch = Arch::new();
    // Tap by tap, so that channels lie next to each other.
    let mut taps = vec![0.0; weight.len()];
    for (channel, weight) in weight.chunks_exact(c.taps).enumerate() {
        weight.iter().enumerate().for_each(|(k, w)| taps[k * c.channels + channel] = *w);
    }
    for_each_chunk(&mut out[..n * c.channels], c.channels, n * c.channels * (c.taps + GATE), |t, out| {
        out.copy_from_slice(bias);
        for (k, weight) in taps.chunks_exact(c.channels).enumerate() {
            // Position read by this tap, shifted up by taps − 1 to stay unsigned; before the text there is nothing.
            let Some(position) = (first + t + k).checked_sub(c.taps - 1) else { continue };
            let row = match position.checked_sub(first) {
                Some(t) => &src[t * c.stride + c.offset..][..c.channels],
                None => &state[position % c.taps * c.channels..][..c.channels],
            };
            arch.dispatch(Map { f: AddProduct, a: weight, b: row, out });
        }
        if c.silu {
            arch.dispatch(Map { f: Gate, a: bias, b: bias, out });
        }
    });
}

/// See [`taipan_reference::gate`].
pub(super) fn gate(z: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(Map { f: TimesGate, a: z, b: z, out });
}

/// See [`taipan_reference::rms_norm_gated`].
pub(super) fn rms_norm_gated(
    y: &[f32],
    z: &[f32],
    z_stride: usize,
    z_offset: usize,
    weight: &[f32],
    eps: f32,
    cols: usize,
    groups: usize,
    mode: GateMode,
    out: &mut [f32],
) {
    let (arch, width) = (Arch::new(), cols / groups);
    let work = out.len() * (GATE + 4);
    for_each_chunk(out, cols, work, |t, out| {
        let (y, z) = (&y[t * cols..][..cols], &z[t * z_stride + z_offset..][..cols]);
        out.copy_from_slice(y);
        if mode != GateMode::NormBeforeGate {
            gate(z, out);
        }
        if mode != GateMode::GateOnly {
            for (out, weight) in out.chunks_exact_mut(width).zip(weight.chunks_exact(width)) {
                let mean = arch.dispatch(Squares(out)) / width as f32;
                arch.dispatch(Map { f: TimesScaled(1.0 / (mean + eps).sqrt()), a: weight, b: weight, out });
            }
        }
        if mode == GateMode::NormBeforeGate {
            gate(z, out);
        }
    });
}

/// What becomes of a number and of those beside it.
trait Each: Copy {
    fn each<S: Simd>(self, simd: S, a: S::f32s, b: S::f32s, out: S::f32s) -> S::f32s;
}

/// `out + a·b`.
#[derive(Clone, Copy)]
struct AddProduct;

impl Each for AddProduct {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, a: S::f32s, b: S::f32s, out: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, out)
    }
}

/// `silu(out)`.
#[derive(Clone, Copy)]
struct Gate;

impl Each for Gate {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, _: S::f32s, _: S::f32s, out: S::f32s) -> S::f32s {
        silu(simd, out)
    }
}

/// `out · silu(a)`.
#[derive(Clone, Copy)]
struct TimesGate;

impl Each for TimesGate {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, a: S::f32s, _: S::f32s, out: S::f32s) -> S::f32s {
        simd.mul_f32s(out, silu(simd, a))
    }
}

/// `out · scale · a`.
#[derive(Clone, Copy)]
struct TimesScaled(f32);

impl Each for TimesScaled {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, a: S::f32s, _: S::f32s, out: S::f32s) -> S::f32s {
        simd.mul_f32s(out, simd.mul_f32s(a, simd.splat_f32s(self.0)))
    }
}

/// `out ← f(a, b, out)`, number by number.
struct Map<'a, F> {
    f: F,
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
}

impl<F: Each> WithSimd for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (a, a_rest) = S::as_simd_f32s(&self.a[..self.out.len()]);
        let (b, b_rest) = S::as_simd_f32s(&self.b[..self.out.len()]);
        let (out, rest) = S::as_mut_simd_f32s(self.out);
        for ((a, b), out) in a.iter().zip(b).zip(out) {
            *out = self.f.each(simd, *a, *b, *out);
        }
        if !rest.is_empty() {
            let [a, b, last] = [a_rest, b_rest, &*rest].map(|v| simd.partial_load_f32s(v));
            simd.partial_store_f32s(rest, self.f.each(simd, a, b, last));
        }
    }
}

/// Σ x².
struct Squares<'a>(&'a [f32]);

impl WithSimd for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (x, rest) = S::as_simd_f32s(self.0);
        let last = simd.partial_load_f32s(rest);
        let mut sum = simd.mul_f32s(last, last);
        for x in x {
            sum = simd.mul_add_e_f32s(*x, *x, sum);
        }
        simd.reduce_sum_f32s(sum)
    }
}

/// `x / (1 + exp(−x))`, whose exponential is the square of that of half as much: infinite, not merely large, where x is far
/// below zero.
#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let root = exp(simd, simd.mul_f32s(simd.splat_f32s(-0.5), x));
    simd.div_f32s(x, simd.mul_add_e_f32s(root, root, simd.splat_f32s(1.0)))
}

/// `exp(x)` within 2e-7 of it, for x from −87 to 88 and as of these beyond.
///
/// `x = n·ln 2 + r`; `exp(r)` by its series, `2ⁿ` by adding n to the exponent. n lies in the last bits of a number so
/// large that they are whole.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const WHOLE: f32 = 12_582_912.0; // 1.5 · 2²³
    /// ln 2 in two parts: n times the first is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const SERIES: [f32; 6] = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let x = simd.max_f32s(simd.splat_f32s(-87.0), simd.min_f32s(simd.splat_f32s(88.0), x));
    let whole = simd.splat_f32s(WHOLE);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), whole);
    let n = simd.sub_f32s(shifted, whole);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2[0]), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2[1]), r);
    let mut sum = simd.splat_f32s(1.0 / 720.0);
    for coefficient in SERIES {
        sum = simd.mul_add_e_f32s(sum, r, simd.splat_f32s(coefficient));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(sum), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`gate`] by every instruction set that there is.
    fn every_gate(z: &[f32], y: f32) -> Vec<Vec<f32>> {
        let gated = |run: &dyn Fn(Map<'_, TimesGate>)| {
            let mut out = vec![y; z.len()];
            run(Map { f: TimesGate, a: z, b: z, out: &mut out });
            out
        };
        let mut all = vec![gated(&|map| Arch::new().dispatch(map)), gated(&|map| map.with_simd(pulp::Scalar))];
        #[cfg(target_arch = "x86_64")]
        all.extend(pulp::x86::V3::try_new().map(|v3| gated(&|map| Simd::vectorize(v3, map))));
        all
    }

    #[test]
    fn gates_agree_with_the_plain_twin_at_every_size() {
        let z: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 10.0).chain([0.0, -0.0, 1e-30, 1e38, -3e38]).collect();
        for len in [1, 15, 16, 17, z.len()] {
            for z in [&z[..len], &z[z.len() - len..]] {
                for (z, got) in every_gate(z, 2.0).iter().flat_map(|out| z.iter().zip(out)) {
                    let exact = 2.0 * taipan_reference::silu(f64::from(*z));
                    let error = (f64::from(*got) - exact).abs();
                    assert!(error <= 1e-6 * exact.abs() + 1e-30, "silu({z}): {got} against {exact}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_so() {
        for out in every_gate(&[f32::NAN, f32::INFINITY, 1.0], 1.0) {
            assert!(out[0].is_nan() && out[1] == f32::INFINITY && out[2].is_finite(), "{out:?}");
        }
    }
}
