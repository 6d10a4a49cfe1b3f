//! Quantised weights: 32 consecutive numbers of a row are a group, and each is a small integer times the group's f16 scale.
//!
//! | format | integers | a group in bytes | chosen scale |
//! |---|---|---|---|
//! | q8 | −127 … 127, two's complement | 32 + 2 | the largest number becomes ±127 |
//! | q4 | −8 … 7, plus 8, the even column in the low half of a byte | 16 + 2 | of eleven that are tried, the one with the least squared error |
//!
//! A row is padded with zeros to whole groups. Integers and scales of a row are the same bytes in a file and on a GPU.
//! An integer times an f16 is exact in f32, so every device computes with the same weights.

use half::f16;
use taipan_kernels::{GROUP, WeightFormat};

/// A format of integers with scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quant {
    /// int8.
    Q8,
    /// int4.
    Q4,
}

/// An f32 of this size counts in ones: adding and subtracting it rounds to an integer, ties to even.
const ONES: f32 = 12_582_912.0; // 1.5 · 2²³

impl Quant {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Q8, Self::Q4];

    /// The one that a storage format is, if it is one.
    #[must_use]
    pub const fn of(format: WeightFormat) -> Option<Self> {
        match format {
            WeightFormat::Q8 => Some(Self::Q8),
            WeightFormat::Q4 => Some(Self::Q4),
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => None,
        }
    }

    /// The storage format that it is.
    #[must_use]
    pub const fn format(self) -> WeightFormat {
        match self {
            Self::Q8 => WeightFormat::Q8,
            Self::Q4 => WeightFormat::Q4,
        }
    }

    /// `q8` or `q4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.format().name()
    }

    /// Bytes of the integers of a group.
    #[must_use]
    pub const fn group_bytes(self) -> usize {
        match self {
            Self::Q8 => GROUP,
            Self::Q4 => GROUP / 2,
        }
    }

    /// What the largest number of a group may become. A scale may be negative, so −8 serves both ends of q4.
    ///
    /// Measured on the embedded model, int4: −8 alone raises its perplexity by 5.0 %, these eleven by 4.0 %. Steps of a half
    /// gain half of that; both signs, more of them or errors weighted by the norm in front of a matrix gain nothing more.
    fn divisors(self) -> &'static [f32] {
        match self {
            Self::Q8 => &[127.0],
            Self::Q4 => &[-8.0, -7.75, -8.25, -7.5, -8.5, -7.25, -8.75, -7.0, -9.0, -6.75, -6.5],
        }
    }

    fn range(self) -> (f32, f32) {
        match self {
            Self::Q8 => (-127.0, 127.0),
            Self::Q4 => (-8.0, 7.0),
        }
    }

    /// Scale and integers of a group of finite numbers; `None` if a scale would have to be larger than f16 can hold.
    fn quantise(self, group: &[f32; GROUP]) -> Option<(f16, [i8; GROUP])> {
        let extreme = group.iter().fold(0.0f32, |a, x| if x.abs() > a.abs() { *x } else { a });
        if extreme == 0.0 {
            return Some((f16::ZERO, [0; GROUP]));
        }
        let scales = self.divisors().iter().map(|divisor| scale(extreme, *divisor)).filter(|s| s.is_finite());
        let errors = scales.map(|scale| (self.squared_error(group, scale.to_f32()), scale));
        let (_, best) = errors.reduce(|best, next| if next.0 < best.0 { next } else { best })?;
        let (scale, inverse) = (best, best.to_f32().recip());
        Some((scale, group.map(|x| self.nearest(x * inverse) as i8)))
    }

    /// The nearest integer of the format.
    fn nearest(self, x: f32) -> f32 {
        let (lo, hi) = self.range();
        (x.clamp(lo, hi) + ONES) - ONES
    }

    /// What a scale would cost a group: eight sums at a time, for which processors have instructions.
    fn squared_error(self, group: &[f32; GROUP], scale: f32) -> f32 {
        let inverse = scale.recip();
        let mut sums = [0.0; 8];
        for eight in group.as_chunks::<8>().0 {
            for (sum, x) in sums.iter_mut().zip(eight) {
                let off = self.nearest(x * inverse) * scale - x;
                *sum += off * off;
            }
        }
        sums.iter().sum()
    }

    /// Writes the integers of a group as they are stored.
    fn store(self, integers: &[i8; GROUP], bytes: &mut [u8]) {
        match self {
            Self::Q8 => bytes.iter_mut().zip(integers).for_each(|(b, q)| *b = *q as u8),
            Self::Q4 => {
                let nibble = |q: i8| (q + 8) as u8;
                let pairs = integers.as_chunks::<2>().0;
                bytes.iter_mut().zip(pairs).for_each(|(b, [even, odd])| *b = nibble(*even) | nibble(*odd) << 4);
            }
        }
    }

    /// The integers of a stored group.
    pub(crate) fn integers(self, bytes: &[u8]) -> [i8; GROUP] {
        match self {
            Self::Q8 => std::array::from_fn(|i| bytes[i] as i8),
            Self::Q4 => std::array::from_fn(|i| (bytes[i / 2] >> (4 * (i % 2)) & 15) as i8 - 8),
        }
    }
}

/// The f16 nearest to `extreme / divisor`. f16's smallest numbers are coarse: where the nearest one is so much too small that
/// the extreme would be cut off, the next larger one is taken.
fn scale(extreme: f32, divisor: f32) -> f16 {
    let nearest = f16::from_f32(extreme / divisor);
    let reached = (nearest.to_f32() * divisor).abs();
    if reached < extreme.abs() * (1.0 - 1.0 / 1024.0) { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}

/// A row to be written.
pub(crate) struct RowMut<'a> {
    quant: Quant,
    integers: &'a mut [u8],
    scales: &'a mut [u16],
}

impl RowMut<'_> {
    /// Quantises finite numbers. The error is the place of one that is too large: its group's scale would not fit f16.
    pub(crate) fn quantise(&mut self, values: &[f32]) -> Result<(), usize> {
        let groups = self.integers.chunks_exact_mut(self.quant.group_bytes()).zip(self.scales.iter_mut());
        for (g, (values, (bytes, scale))) in values.chunks(GROUP).zip(groups).enumerate() {
            let mut group = [0.0; GROUP];
            group[..values.len()].copy_from_slice(values);
            let Some((found, integers)) = self.quant.quantise(&group) else {
                let largest = |a: &usize, b: &usize| values[*a].abs().total_cmp(&values[*b].abs());
                return Err(g * GROUP + (0..values.len()).max_by(largest).expect("a chunk has elements"));
            };
            *scale = found.to_bits();
            self.quant.store(&integers, bytes);
        }
        Ok(())
    }

    /// Bytes of its integers, and groups.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.integers.len(), self.scales.len())
    }

    /// Takes over a row that is stored like this already.
    pub(crate) fn copy(&mut self, integers: &[u8], scales: impl Iterator<Item = f16>) {
        self.integers.copy_from_slice(integers);
        self.scales.iter_mut().zip(scales).for_each(|(to, from)| *to = from.to_bits());
    }
}

/// Consecutive rows of a quantised matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantRows {
    quant: Quant,
    cols: usize,
    integers: Vec<u8>,
    scales: Vec<u16>,
}

impl QuantRows {
    /// So many rows of zeros.
    #[must_use]
    pub fn zeros(quant: Quant, rows: usize, cols: usize) -> Self {
        let groups = rows * cols.div_ceil(GROUP);
        Self { quant, cols, integers: vec![0; groups * quant.group_bytes()], scales: vec![0; groups] }
    }

    /// Quantises dense rows of finite numbers.
    ///
    /// # Panics
    /// If a number is too large for the format.
    #[must_use]
    pub fn of(quant: Quant, dense: &[f32], cols: usize) -> Self {
        let mut rows = Self::zeros(quant, dense.len() / cols, cols);
        let fill = |row: usize, out: &mut RowMut<'_>| out.quantise(&dense[row * cols..(row + 1) * cols]);
        rows.fill(fill).unwrap_or_else(|at| panic!("the number at {at} of a row is too large for {}", quant.name()));
        rows
    }

    /// Calls `fill` for every row, on several threads where there are any.
    ///
    /// # Errors
    /// That of the first row that has one.
    pub(crate) fn fill<E: Send>(
        &mut self,
        fill: impl Fn(usize, &mut RowMut<'_>) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let (quant, groups) = (self.quant, self.groups());
        let (integers, scales) = (&mut self.integers[..], &mut self.scales[..]);
        let work = |(row, (integers, scales))| fill(row, &mut RowMut { quant, integers, scales });
        #[cfg(not(target_arch = "wasm32"))]
        {
            use rayon::prelude::*;
            let rows = integers.par_chunks_mut(groups * quant.group_bytes()).zip(scales.par_chunks_mut(groups));
            rows.enumerate().with_min_len(8).map(work).find_first(Result::is_err).unwrap_or(Ok(()))
        }
        #[cfg(target_arch = "wasm32")]
        {
            let rows = integers.chunks_mut(groups * quant.group_bytes()).zip(scales.chunks_mut(groups));
            rows.enumerate().try_for_each(work)
        }
    }

    /// The numbers that a row stands for.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        for (g, out) in out.chunks_mut(GROUP).enumerate() {
            let (scale, integers) = self.group(row, g);
            out.iter_mut().zip(integers).for_each(|(x, q)| *x = f32::from(q) * scale.to_f32());
        }
    }

    /// Scale and integers of a group of a row.
    pub(crate) fn group(&self, row: usize, group: usize) -> (f16, [i8; GROUP]) {
        let (at, bytes) = (row * self.groups() + group, self.quant.group_bytes());
        (f16::from_bits(self.scales[at]), self.quant.integers(&self.integers[at * bytes..][..bytes]))
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scales.len() / self.groups()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// The format.
    #[must_use]
    pub fn quant(&self) -> Quant {
        self.quant
    }

    /// Columns of a row.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Groups of a row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.cols.div_ceil(GROUP)
    }

    /// Integers of all rows, as they are stored.
    #[must_use]
    pub fn integers(&self) -> &[u8] {
        &self.integers
    }

    /// Bits of the f16 scales of all rows.
    #[must_use]
    pub fn scales(&self) -> &[u16] {
        &self.scales
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|i| (taipan_reference::uniform(seed, i as u32) * 2.0 - 1.0) * size).collect()
    }

    fn back(rows: &QuantRows) -> Vec<f32> {
        let mut out = vec![f32::NAN; rows.len() * rows.cols()];
        out.chunks_exact_mut(rows.cols()).enumerate().for_each(|(i, out)| rows.row(i, out));
        out
    }

    #[test]
    fn every_number_comes_back_within_half_a_step() {
        // Sizes from f16's smallest scale to its largest, at columns that end inside a group.
        for (quant, steps) in [(Quant::Q8, 127.0), (Quant::Q4, 7.0)] {
            for (cols, size) in [(1, 1.0), (31, 3e-3), (32, 1e-6), (33, 1.0), (100, 4e5), (64, 1e-9)] {
                let dense = numbers(cols as u64, 5 * cols, size);
                let rows = QuantRows::of(quant, &dense, cols);
                let found = back(&rows);
                for (group, found) in dense
                    .chunks(cols)
                    .flat_map(|r| r.chunks(GROUP))
                    .zip(found.chunks(cols).flat_map(|r| r.chunks(GROUP)))
                {
                    let largest = group.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                    // q4 may cut off the largest by half a step, and its step may be a seventh larger.
                    let step = (largest / steps * 1.001).max(f16::MIN_POSITIVE_SUBNORMAL.to_f32());
                    let bound = if quant == Quant::Q8 { 0.5 * step } else { step };
                    for (x, y) in group.iter().zip(found) {
                        assert!((x - y).abs() <= bound, "{quant:?}, {cols} columns: {x} became {y}, step {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_representable_is_kept_exactly() {
        // Integers with the extreme of each format, so that the scale is found again.
        for (quant, lo, hi) in [(Quant::Q8, -127, 127), (Quant::Q4, -8, 7)] {
            for scale in [1.0, -0.25, 3.0, 0.0009765625] {
                let integer = |i: i32| if i % 32 == 5 { lo } else { lo + i * 7 % (hi - lo) };
                let dense: Vec<f32> = (0..96).map(|i| integer(i) as f32 * scale).collect();
                assert_eq!(back(&QuantRows::of(quant, &dense, 96)), dense, "{quant:?} {scale}");
            }
        }
    }

    #[test]
    fn zeros_are_zeros_and_padding_is_stored_as_zero() {
        for quant in Quant::ALL {
            let rows = QuantRows::of(quant, &[0.0; 70], 70);
            assert_eq!(back(&rows), [0.0; 70]);
            let rows = QuantRows::of(quant, &[1.0; 33], 33);
            assert_eq!(rows.group(0, 1).1[1..], [0; GROUP - 1], "{quant:?}");
            assert_eq!(rows.integers().len(), 2 * quant.group_bytes());
            assert_eq!(2 * rows.scales().len() + rows.integers().len(), quant.format().row_bytes(33));
        }
    }

    #[test]
    fn bytes_are_those_of_the_description() {
        let mut dense = [0.0; 32];
        dense[..4].copy_from_slice(&[-8.0, 7.0, 1.0, -2.0]);
        let q4 = QuantRows::of(Quant::Q4, &dense, 32);
        assert_eq!((q4.integers()[..3].to_vec(), q4.scales()), (vec![0xf0, 0x69, 0x88], &[0x3c00u16][..]));
        dense[4] = 127.0;
        let q8 = QuantRows::of(Quant::Q8, &dense, 32);
        assert_eq!((q8.integers()[..5].to_vec(), q8.scales()), (vec![248, 7, 1, 254, 127], &[0x3c00u16][..]));
    }

    #[test]
    fn of_several_scales_the_best_is_taken() {
        // With the largest at −8 the others lie half-way between integers.
        let mut dense = [3.5 * 7.5 / 8.0; 32];
        dense[0] = 7.5;
        let rows = QuantRows::of(Quant::Q4, &dense, 32);
        let found = back(&rows);
        let error =
            |scale: f32| dense.iter().map(|x| ((x / scale).round().clamp(-8.0, 7.0) * scale - x).powi(2)).sum::<f32>();
        let ours: f32 = dense.iter().zip(&found).map(|(x, y)| (x - y).powi(2)).sum();
        assert!(ours < error(-7.5 / 8.0) / 2.0, "{ours} against {}", error(-7.5 / 8.0));
    }

    #[test]
    fn a_number_too_large_is_named() {
        for (quant, most) in [(Quant::Q8, 127.0), (Quant::Q4, 9.0)] {
            let quantise = |dense: &[f32]| {
                let mut rows = QuantRows::zeros(quant, 3, 40);
                rows.fill(|row, out| if row == 1 { out.quantise(dense) } else { Ok(()) })
            };
            let mut dense = vec![1.0; 40];
            (dense[36], dense[37]) = (65_504.0 * most * 0.9, -65_504.0 * most * 1.01);
            assert_eq!(quantise(&dense), Err(37), "{quant:?}");
            dense[37] = 0.0;
            assert_eq!(quantise(&dense), Ok(()));
        }
    }
}
