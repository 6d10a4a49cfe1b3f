//! The inner loops of products with a panel, written once for every vector width.

#[cfg(test)]
use pulp::Scalar;
use pulp::{Simd, WithSimd};

use taipan_kernels::GROUP;

use super::{Line, PANEL, WORDS};

/// Input rows that share one pass over a panel.
const ROWS: usize = 6;

/// A panel `[cols][PANEL]`, whatever its storage.
pub(super) trait Panel {
    /// Columns that share a scale, whole steps of them; all where nothing is scaled.
    const GROUP: usize = usize::MAX;
    /// Columns of a step: where a column is in its step, the compiler knows.
    const STEP: usize = 2;
    /// Bytes of a step, whole lines of a cache.
    const BYTES: usize = 2 * LINE;

    /// Columns.
    fn len(&self) -> usize;

    /// Lanes `v` of half `h` (rows `16·h + v·lanes …`) of column `i` of a step, not scaled yet.
    fn load<S: Simd>(&self, simd: S, step: usize, i: usize, v: usize) -> [S::f32s; 2];

    /// Where the first step is; the others follow.
    fn start(&self) -> *const u8;

    /// The scales of these rows in a group of columns.
    fn scale<S: Simd>(&self, _: S, _group: usize, _v: usize) -> Option<[S::f32s; 2]> {
        None
    }
}

/// Bytes of a line of a cache.
const LINE: usize = size_of::<Line>();

/// Bytes between what is computed with and what is asked for meanwhile: without, a core waits for the few lines that it asks for
/// by itself, and for the first ones of each page. 1 024 and 4 096 are about as good.
const AHEAD: usize = 2048;

/// Asks for a line of memory, which nobody waits for. Any address may be asked for: of one that is none, nothing comes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch<S: Simd>(simd: S, line: *const u8) {
    use std::arch::x86_64::_MM_HINT_T0;
    let any = &simd as &dyn std::any::Any;
    if let Some(v4) = any.downcast_ref::<pulp::x86::V4>() {
        v4.sse._mm_prefetch::<_MM_HINT_T0>(line.cast());
    } else if let Some(v3) = any.downcast_ref::<pulp::x86::V3>() {
        v3.sse._mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch<S: Simd>(_: S, _: *const u8) {}

impl Panel for [[f32; PANEL]] {
    const BYTES: usize = 4 * LINE;

    fn len(&self) -> usize {
        self.len()
    }

    fn start(&self) -> *const u8 {
        self.as_ptr().cast()
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, step: usize, i: usize, v: usize) -> [S::f32s; 2] {
        load_f32(simd, &self[step * Self::STEP + i], v)
    }
}

#[inline(always)]
fn load_f32<S: Simd>(_: S, column: &[f32; PANEL], v: usize) -> [S::f32s; 2] {
    let (vectors, _) = S::as_simd_f32s(column);
    [vectors[v], vectors[v + WORDS / S::F32_LANES]]
}

/// A panel of f16, packed two to a word.
#[derive(Clone, Copy)]
pub(super) struct F16<'a>(pub(super) &'a [Line]);

/// A panel of bf16, packed two to a word.
#[derive(Clone, Copy)]
pub(super) struct Bf16<'a>(pub(super) &'a [Line]);

/// A panel of integers of `BITS` bits: word `j` has row `j` below row `j + 16`, of the first of its columns below the others.
/// Above them stand the scales of each group.
#[derive(Clone, Copy)]
pub(super) struct Integers<'a, const BITS: u32> {
    pub(super) cols: usize,
    pub(super) words: &'a [Line],
    pub(super) scales: F16<'a>,
}

/// Bits of 2²³: an integer below them makes an f32 of 2²³ plus that integer.
const ONES: u32 = 0x4b00_0000;

/// The integers that begin at a bit of each word.
#[inline(always)]
fn integer<S: Simd, const BITS: u32>(simd: S, words: S::u32s, shift: u32) -> S::f32s {
    let biased =
        simd.and_u32s(simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s(shift)), simd.splat_u32s((1 << BITS) - 1));
    let zero = simd.splat_f32s(8_388_608.0 + (1 << (BITS - 1)) as f32);
    simd.sub_f32s(simd.transmute_f32s_u32s(simd.or_u32s(biased, simd.splat_u32s(ONES))), zero)
}

impl<const BITS: u32> Panel for Integers<'_, BITS> {
    const GROUP: usize = GROUP;
    const STEP: usize = (16 / BITS) as usize; // a word
    const BYTES: usize = LINE;

    fn len(&self) -> usize {
        self.cols
    }

    fn start(&self) -> *const u8 {
        self.words.as_ptr().cast()
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, step: usize, i: usize, v: usize) -> [S::f32s; 2] {
        let (words, _) = S::as_simd_u32s(&*self.words[step]);
        let shift = i as u32 * 2 * BITS;
        [integer::<S, BITS>(simd, words[v], shift), integer::<S, BITS>(simd, words[v], shift + BITS)]
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, simd: S, group: usize, v: usize) -> Option<[S::f32s; 2]> {
        Some(self.scales.load_column(simd, group, v))
    }
}

#[inline(always)]
fn shl<S: Simd>(simd: S, x: S::u32s, by: u32) -> S::u32s {
    simd.wrapping_dyn_shl_u32s(x, simd.splat_u32s(by))
}

/// f32 bits of f16 numbers whose 15 bits without sign stand at bits 13 to 27 and whose sign at bit 31.
///
/// The exponent is moved from bias 15 to bias 127. A subnormal has no implicit one: it is built with one, which is then
/// subtracted, exactly. Multiplying by 2^112 would do as well, but costs dearly where operands are subnormal.
#[inline(always)]
fn widen_f16<S: Simd>(simd: S, magnitude: S::u32s, sign: S::u32s) -> S::f32s {
    const REBIAS: u32 = 112 << 23;
    const LEAST: u32 = 113 << 23; // 2^-14
    let normal = simd.add_u32s(magnitude, simd.splat_u32s(REBIAS));
    let with_one = simd.transmute_f32s_u32s(simd.add_u32s(magnitude, simd.splat_u32s(LEAST)));
    let least = simd.splat_f32s(f32::from_bits(LEAST));
    let subnormal = simd.transmute_u32s_f32s(simd.sub_f32s(with_one, least));
    let is_subnormal = simd.less_than_u32s(magnitude, simd.splat_u32s(1 << 23));
    simd.transmute_f32s_u32s(simd.or_u32s(simd.select_u32s(is_subnormal, subnormal, normal), sign))
}

/// The lower and the upper f16 of each word by the instruction for it, where `simd` has one: a third of the operations.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn convert_f16<S: Simd>(simd: S, words: S::u32s) -> Option<[S::f32s; 2]> {
    let v4 = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>()?.avx512f;
    let words = bytemuck::cast(words);
    let low = v4._mm512_cvtph_ps(v4._mm512_cvtepi32_epi16(words));
    let high = v4._mm512_cvtph_ps(v4._mm512_cvtepi32_epi16(v4._mm512_srli_epi32::<16>(words)));
    Some([bytemuck::cast(low), bytemuck::cast(high)])
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn convert_f16<S: Simd>(_: S, _: S::u32s) -> Option<[S::f32s; 2]> {
    None
}

impl F16<'_> {
    #[inline(always)]
    fn load_column<S: Simd>(&self, simd: S, column: usize, v: usize) -> [S::f32s; 2] {
        let (words, _) = S::as_simd_u32s(&*self.0[column]);
        let word = words[v];
        if let Some(halves) = convert_f16(simd, word) {
            return halves;
        }
        let high = simd.splat_u32s(0x8000_0000);
        let low_magnitude = shl(simd, simd.and_u32s(word, simd.splat_u32s(0x7fff)), 13);
        let low_sign = simd.and_u32s(shl(simd, word, 16), high);
        let shifted = simd.wrapping_dyn_shr_u32s(word, simd.splat_u32s(3));
        let high_magnitude = simd.and_u32s(shifted, simd.splat_u32s(0x7fff << 13));
        let high_sign = simd.and_u32s(word, high);
        [widen_f16(simd, low_magnitude, low_sign), widen_f16(simd, high_magnitude, high_sign)]
    }
}

impl Panel for F16<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn start(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, step: usize, i: usize, v: usize) -> [S::f32s; 2] {
        self.load_column(simd, step * Self::STEP + i, v)
    }
}

impl Panel for Bf16<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn start(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, step: usize, i: usize, v: usize) -> [S::f32s; 2] {
        let (words, _) = S::as_simd_u32s(&*self.0[step * Self::STEP + i]);
        let high = simd.and_u32s(words[v], simd.splat_u32s(0xffff_0000));
        [simd.transmute_f32s_u32s(shl(simd, words[v], 16)), simd.transmute_f32s_u32s(high)]
    }
}

/// Splits vectors of a panel column into steps that fit the registers, with the number of lanes known to the compiler.
macro_rules! by_lanes {
    ($S:ident, $body:ident($($arg:expr),*)) => {
        match $S::F32_LANES {
            16 => $body::<$S, _, 1>($($arg),*),
            8 => $body::<$S, _, 2>($($arg),*),
            4 => $body::<$S, _, 4>($($arg),*),
            2 => $body::<$S, _, 8>($($arg),*),
            _ => $body::<$S, _, 16>($($arg),*),
        }
    };
}

/// `out[PANEL] = panel · x`.
pub(super) struct PanelTimesRow<'a, P: Panel + ?Sized> {
    pub(super) panel: &'a P,
    pub(super) x: &'a [f32],
    pub(super) out: &'a mut [f32; PANEL],
}

impl<P: Panel + ?Sized> WithSimd for PanelTimesRow<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        by_lanes!(S, times_row(simd, self.panel, self.x, self.out));
    }
}

/// `N` vectors a half. Two columns at a time have sums of their own: more chains, so that the units need not wait.
#[inline(always)]
fn times_row<S: Simd, P: Panel + ?Sized, const N: usize>(simd: S, panel: &P, x: &[f32], out: &mut [f32; PANEL]) {
    assert_eq!(panel.len(), x.len(), "a panel has a column per input");
    let mut totals = [[simd.splat_f32s(0.0); 2]; N];
    for (group, x) in x.chunks(P::GROUP).enumerate() {
        let first = group * (P::GROUP / P::STEP);
        let mut sums = [[[simd.splat_f32s(0.0); 2]; N]; 2];
        let steps = x.chunks_exact(P::STEP);
        let (rest, whole) = (steps.remainder(), steps.len());
        for (step, x) in steps.enumerate() {
            for line in 0..P::BYTES / LINE {
                prefetch(simd, panel.start().wrapping_add((first + step) * P::BYTES + AHEAD + line * LINE));
            }
            for i in 0..P::STEP {
                add_column(simd, panel, first + step, i, x[i], &mut sums[i % 2]);
            }
        }
        for (i, x) in rest.iter().enumerate() {
            add_column(simd, panel, first + whole, i, *x, &mut sums[i % 2]);
        }
        for (v, total) in totals.iter_mut().enumerate() {
            let low = simd.add_f32s(sums[0][v][0], sums[1][v][0]);
            let high = simd.add_f32s(sums[0][v][1], sums[1][v][1]);
            *total = match panel.scale(simd, group, v) {
                Some([a, b]) => [simd.mul_add_e_f32s(low, a, total[0]), simd.mul_add_e_f32s(high, b, total[1])],
                None => [low, high],
            };
        }
    }
    let (out, _) = S::as_mut_simd_f32s(out);
    for (v, total) in totals.into_iter().enumerate() {
        [out[v], out[v + N]] = total;
    }
}

/// A function rather than a closure: only an inlined body is compiled for the vector width at hand.
#[inline(always)]
fn add_column<S: Simd, P: Panel + ?Sized, const N: usize>(
    simd: S,
    panel: &P,
    step: usize,
    i: usize,
    x: f32,
    sums: &mut [[S::f32s; 2]; N],
) {
    let x = simd.splat_f32s(x);
    for (v, sum) in sums.iter_mut().enumerate() {
        let [low, high] = panel.load(simd, step, i, v);
        sum[0] = simd.mul_add_e_f32s(low, x, sum[0]);
        sum[1] = simd.mul_add_e_f32s(high, x, sum[1]);
    }
}

/// Widens a panel into `out` and returns it.
pub(super) struct Expand<'a, P: Panel> {
    pub(super) panel: P,
    pub(super) out: &'a mut Vec<[f32; PANEL]>,
}

impl<'a, P: Panel> WithSimd for Expand<'a, P> {
    type Output = &'a [[f32; PANEL]];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        self.out.resize(self.panel.len(), [0.0; PANEL]);
        let half = WORDS / S::F32_LANES;
        for (group, out) in self.out.chunks_mut(P::GROUP).enumerate() {
            for v in 0..half {
                let scale = self.panel.scale(simd, group, v);
                for (step, out) in out.chunks_mut(P::STEP).enumerate() {
                    for (i, out) in out.iter_mut().enumerate() {
                        let (out, _) = S::as_mut_simd_f32s(out);
                        let [low, high] = self.panel.load(simd, group * (P::GROUP / P::STEP) + step, i, v);
                        [out[v], out[v + half]] = match scale {
                            Some([a, b]) => [simd.mul_f32s(low, a), simd.mul_f32s(high, b)],
                            None => [low, high],
                        };
                    }
                }
            }
        }
        self.out
    }
}

/// `out[m][PANEL] = x[m, cols] · panel`.
pub(super) struct PanelTimesRows<'a> {
    pub(super) panel: &'a [[f32; PANEL]],
    pub(super) x: &'a [f32],
    pub(super) out: &'a mut [[f32; PANEL]],
}

impl WithSimd for PanelTimesRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let cols = self.panel.len();
        let mut x = self.x.chunks(ROWS * cols);
        for out in self.out.chunks_mut(ROWS) {
            let x = x.next().expect("an input row per output row");
            match out.len() {
                1 => tile::<S, 1>(simd, self.panel, x, out),
                2 => tile::<S, 2>(simd, self.panel, x, out),
                3 => tile::<S, 3>(simd, self.panel, x, out),
                4 => tile::<S, 4>(simd, self.panel, x, out),
                5 => tile::<S, 5>(simd, self.panel, x, out),
                _ => tile::<S, ROWS>(simd, self.panel, x, out),
            }
        }
    }
}

/// `M` input rows times a panel, two vectors of its rows at a time: `2·M` sums in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize>(simd: S, panel: &[[f32; PANEL]], x: &[f32], out: &mut [[f32; PANEL]]) {
    let cols = panel.len();
    let rows: [&[f32]; M] = std::array::from_fn(|t| &x[t * cols..(t + 1) * cols]);
    for v in 0..WORDS / S::F32_LANES {
        let mut sums = [[simd.splat_f32s(0.0); 2]; M];
        for (column, weights) in panel.iter().enumerate() {
            let [low, high] = load_f32(simd, weights, v);
            for (sum, row) in sums.iter_mut().zip(rows) {
                let x = simd.splat_f32s(row[column]);
                sum[0] = simd.mul_add_e_f32s(low, x, sum[0]);
                sum[1] = simd.mul_add_e_f32s(high, x, sum[1]);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            let (out, _) = S::as_mut_simd_f32s(out);
            out[v] = sum[0];
            out[v + WORDS / S::F32_LANES] = sum[1];
        }
    }
}

/// What a machine without vectors computes, for the tests.
#[cfg(test)]
pub(super) fn scalar_product(panel: &[[f32; PANEL]], x: &[f32], out: &mut [[f32; PANEL]]) {
    PanelTimesRows { panel, x, out }.with_simd(Scalar);
}

/// A widened panel, by a machine without vectors.
#[cfg(test)]
pub(super) fn expanded(panel: impl Panel) -> Vec<[f32; PANEL]> {
    let mut out = Vec::new();
    Expand { panel, out: &mut out }.with_simd(Scalar);
    out
}
