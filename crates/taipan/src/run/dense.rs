//! Weight matrices of the CPU device, and the products with them: vectorised, on several threads, f32 sums.
//!
//! A matrix is kept in panels of 32 rows, column by column, in its storage format: a product reads it front to back,
//! spreads one input over a whole vector, and needs no sums across lanes. 16-bit formats are widened in registers, so a
//! decoded token reads half the bytes of f32; integers become floats there as well, and a group's sum is scaled once. The
//! plain twins in `taipan-reference` are what the products are tested against.

mod quantised;
mod simd;

use std::ops::{Deref, DerefMut};

use half::{bf16, f16};
use pulp::Arch;
use taipan_kernels::WeightFormat;

use crate::error::Result;
use crate::memory::reserve_weights;
use crate::quant::{Quant, QuantRows};
use crate::run::threads::for_each_chunk;
use quantised::QuantPanels;
use simd::{Expand, F16, PanelTimesRow, PanelTimesRows};

/// Rows of a panel.
pub(super) const PANEL: usize = 32;
/// Words of a 16-bit panel's column: word `j` holds row `j` below row `j + 16`.
const WORDS: usize = PANEL / 2;

/// The words of a step in a panel that is not of f32: a line of a cache, not parts of two.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([u32; WORDS]);

impl Deref for Line {
    type Target = [u32; WORDS];

    fn deref(&self) -> &[u32; WORDS] {
        &self.0
    }
}

impl DerefMut for Line {
    fn deref_mut(&mut self) -> &mut [u32; WORDS] {
        &mut self.0
    }
}

/// Which twins of the kernels run that take time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Twins {
    /// Fast, f32 sums, as [`PackedMatrix::matmul`] and [`PackedMatrix::matvec`] are: the CPU device.
    #[default]
    Vectorised,
    /// Plain loops with f64 sums: the oracle that a model and its kernels are held to.
    Plain,
}

impl Twins {
    pub(super) fn matmul(self, x: &[f32], w: &PackedMatrix, y: &mut [f32]) {
        match self {
            Self::Vectorised => w.matmul(x, y),
            Self::Plain => taipan_reference::matmul(x, &w.to_dense(), None, w.rows, w.cols, y),
        }
    }

    pub(super) fn matvec(self, x: &[f32], w: &PackedMatrix, y: &mut [f32]) {
        match self {
            Self::Vectorised => w.matvec(x, y),
            Self::Plain => taipan_reference::matvec(x, &w.to_dense(), None, y),
        }
    }
}

/// Panels as they are stored; rows past the last are zero.
#[derive(Clone, Debug)]
enum Panels {
    F32(Vec<[f32; PANEL]>),
    F16(Vec<Line>),
    Bf16(Vec<Line>),
    Quant(QuantPanels),
}

/// A weight matrix `[rows, cols]` in the memory of the CPU device.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    rows: usize,
    cols: usize,
    panels: Panels,
}

/// The bits of a number in a 16-bit format that holds it exactly.
fn narrow(format: WeightFormat, x: f32) -> u32 {
    match format {
        WeightFormat::F16 => f16::from_f32(x).to_bits().into(),
        WeightFormat::Bf16 => bf16::from_f32(x).to_bits().into(),
        WeightFormat::F32 | WeightFormat::Q8 | WeightFormat::Q4 => unreachable!("{} is not narrowed", format.name()),
    }
}

impl PackedMatrix {
    /// Memory for a matrix, to be filled from its first row to its last; `what` names it where there is not enough.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn reserve(rows: usize, cols: usize, format: WeightFormat, what: impl FnOnce() -> String) -> Result<Self> {
        let count = rows.div_ceil(PANEL);
        let columns = count.saturating_mul(cols);
        let panels = match format {
            WeightFormat::F32 => Panels::F32(reserve_weights(columns, what)?),
            WeightFormat::F16 => Panels::F16(reserve_weights(columns, what)?),
            WeightFormat::Bf16 => Panels::Bf16(reserve_weights(columns, what)?),
            WeightFormat::Q8 => Panels::Quant(QuantPanels::reserve(Quant::Q8, count, cols, what)?),
            WeightFormat::Q4 => Panels::Quant(QuantPanels::reserve(Quant::Q4, count, cols, what)?),
        };
        Ok(Self { rows, cols, panels })
    }

    /// A matrix from its dense rows, which are quantised if the format is one of integers; others must hold them exactly.
    ///
    /// # Panics
    /// If `dense` is not a whole number of rows, a number is too large, or memory runs out.
    #[must_use]
    pub fn pack(dense: &[f32], cols: usize, format: WeightFormat) -> Self {
        assert!(dense.len().is_multiple_of(cols), "pack: {} numbers in rows of {cols}", dense.len());
        let what = || "a matrix".to_owned();
        let mut matrix = Self::reserve(dense.len() / cols, cols, format, what).expect("memory for a matrix");
        match Quant::of(format) {
            None => matrix.set_rows(0, dense),
            Some(quant) => matrix.set_quantised(0, &QuantRows::of(quant, dense, cols)),
        }
        matrix
    }

    /// Writes consecutive dense rows; the format, which is one of floats, must hold their values exactly.
    pub fn set_rows(&mut self, first: usize, dense: &[f32]) {
        let end = first + dense.len() / self.cols;
        assert!(end <= self.rows, "set_rows: {first} to {end} of {}", self.rows);
        // Grown as it is filled: to write zeros over a large matrix takes a while itself.
        let columns = end.div_ceil(PANEL) * self.cols;
        match &mut self.panels {
            Panels::F32(p) => p.resize(p.len().max(columns), [0.0; PANEL]),
            Panels::F16(p) | Panels::Bf16(p) => p.resize(p.len().max(columns), Line::default()),
            Panels::Quant(p) => panic!("set_rows: dense rows for {}", p.quant.name()),
        }
        // A few columns at a time, so that the part of a panel that all its rows write to stays in cache.
        const COLUMNS: usize = 64;
        for from in (0..self.cols).step_by(COLUMNS) {
            let to = self.cols.min(from + COLUMNS);
            for (i, row) in dense.chunks_exact(self.cols).enumerate() {
                self.set(first + i, from, &row[from..to]);
            }
        }
    }

    /// Writes a part of one row, from column `from` on.
    fn set(&mut self, row: usize, from: usize, values: &[f32]) {
        let (first, lane) = (row / PANEL * self.cols + from, row % PANEL);
        let format = self.format();
        match &mut self.panels {
            Panels::F32(p) => p[first..].iter_mut().zip(values).for_each(|(column, x)| column[lane] = *x),
            Panels::F16(p) | Panels::Bf16(p) => {
                let shift = 16 * (lane / WORDS);
                for (column, x) in p[first..].iter_mut().zip(values) {
                    let word = &mut column[lane % WORDS];
                    *word = *word & !(0xffff << shift) | narrow(format, *x) << shift;
                }
            }
            Panels::Quant(_) => unreachable!("set_rows has looked"),
        }
    }

    /// Writes consecutive quantised rows of the format of this matrix, each once.
    pub fn set_quantised(&mut self, first: usize, rows: &QuantRows) {
        let Panels::Quant(p) = &mut self.panels else { panic!("set_quantised: a matrix of floats") };
        assert!(rows.cols() == self.cols && rows.quant() == p.quant, "set_quantised: rows of another matrix");
        assert!(first + rows.len() <= self.rows, "set_quantised: {} rows from {first} of {}", rows.len(), self.rows);
        p.set(first, rows);
    }

    /// Reads one row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row: row {row} of {}", self.rows);
        let (first, lane) = (row / PANEL * self.cols, row % PANEL);
        let bits = |column: &Line| (column[lane % WORDS] >> (16 * (lane / WORDS))) as u16;
        match &self.panels {
            Panels::F32(p) => out.iter_mut().zip(&p[first..]).for_each(|(o, c)| *o = c[lane]),
            Panels::F16(p) => out.iter_mut().zip(&p[first..]).for_each(|(o, c)| *o = f16::from_bits(bits(c)).to_f32()),
            Panels::Bf16(p) => {
                out.iter_mut().zip(&p[first..]).for_each(|(o, c)| *o = bf16::from_bits(bits(c)).to_f32())
            }
            Panels::Quant(p) => p.row(row, out),
        }
    }

    /// All rows, dense.
    #[must_use]
    pub fn to_dense(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        out.chunks_exact_mut(self.cols).enumerate().for_each(|(row, out)| self.row(row, out));
        out
    }

    /// How elements are stored.
    #[must_use]
    pub fn format(&self) -> WeightFormat {
        match &self.panels {
            Panels::F32(_) => WeightFormat::F32,
            Panels::F16(_) => WeightFormat::F16,
            Panels::Bf16(_) => WeightFormat::Bf16,
            Panels::Quant(p) => p.quant.format(),
        }
    }

    /// Bytes allocated for it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = match &self.panels {
            Panels::F32(p) => p.capacity() * size_of::<[f32; PANEL]>(),
            Panels::F16(p) | Panels::Bf16(p) => p.capacity() * size_of::<Line>(),
            Panels::Quant(p) => p.bytes(),
        };
        bytes as u64
    }

    /// Bytes that a matrix takes.
    #[must_use]
    pub fn bytes_of(rows: usize, cols: usize, format: WeightFormat) -> u64 {
        let panel = match format {
            WeightFormat::F32 => cols * size_of::<[f32; PANEL]>(),
            WeightFormat::F16 | WeightFormat::Bf16 => cols * size_of::<Line>(),
            WeightFormat::Q8 => QuantPanels::panel_bytes(Quant::Q8, cols),
            WeightFormat::Q4 => QuantPanels::panel_bytes(Quant::Q4, cols),
        };
        (rows.div_ceil(PANEL) * panel) as u64
    }

    /// `y[rows] = w · x`, x `[cols]`.
    pub fn matvec(&self, x: &[f32], y: &mut [f32]) {
        assert!(x.len() == self.cols && y.len() == self.rows, "matvec: [{}, {}]", self.rows, self.cols);
        let arch = Arch::new();
        for_each_chunk(y, PANEL, self.rows * self.cols, |panel, y| {
            let columns = panel * self.cols..(panel + 1) * self.cols;
            let mut out = [0.0; PANEL];
            match &self.panels {
                Panels::F32(p) => arch.dispatch(PanelTimesRow { panel: &p[columns], x, out: &mut out }),
                Panels::F16(p) => arch.dispatch(PanelTimesRow { panel: &F16(&p[columns]), x, out: &mut out }),
                Panels::Bf16(p) => arch.dispatch(PanelTimesRow { panel: &simd::Bf16(&p[columns]), x, out: &mut out }),
                Panels::Quant(p) => p.times_row(arch, panel, x, &mut out),
            }
            y.copy_from_slice(&out[..y.len()]);
        });
    }

    /// `y[m, rows] = x[m, cols] · wᵀ`.
    pub fn matmul(&self, x: &[f32], y: &mut [f32]) {
        let m = x.len() / self.cols;
        assert!(x.len() == m * self.cols && y.len() == m * self.rows, "matmul: [{}, {}]", self.rows, self.cols);
        match m {
            0 => return,
            1 => return self.matvec(x, y),
            _ => {}
        }
        let arch = Arch::new();
        // Each panel fills a block of its own, `[m, PANEL]`; the blocks are then put side by side.
        let work = m * self.rows * self.cols;
        let mut blocks = vec![[0.0; PANEL]; m * self.rows.div_ceil(PANEL)];
        for_each_chunk(&mut blocks, m, work, |panel, out| {
            let columns = panel * self.cols..(panel + 1) * self.cols;
            let mut wide = Vec::new();
            let panel = match &self.panels {
                Panels::F32(p) => &p[columns],
                Panels::F16(p) => arch.dispatch(Expand { panel: F16(&p[columns]), out: &mut wide }),
                Panels::Bf16(p) => arch.dispatch(Expand { panel: simd::Bf16(&p[columns]), out: &mut wide }),
                Panels::Quant(p) => p.expand(arch, panel, &mut wide),
            };
            panel_times_rows(panel, x, out);
        });
        for_each_chunk(y, self.rows, work, |t, y| {
            for (panel, y) in y.chunks_mut(PANEL).enumerate() {
                y.copy_from_slice(&blocks[panel * m + t][..y.len()]);
            }
        });
    }
}

/// `out[m, PANEL] = x[m, cols] · panel[cols, PANEL]`.
pub(super) fn panel_times_rows(panel: &[[f32; PANEL]], x: &[f32], out: &mut [[f32; PANEL]]) {
    Arch::new().dispatch(PanelTimesRows { panel, x, out });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that every format holds exactly, f16's subnormal ones and zero among them.
    fn weights(n: usize) -> Vec<f32> {
        let bf16_and_f16 = |i: usize| {
            let x = taipan_reference::uniform(2, i as u32) * 2.0 - 1.0;
            let scale = [1.0, 1e-3, 3e-7, 0.0, 4.0][i % 5];
            let short = bf16::from_f32(x * scale).to_f32();
            let short = f16::from_f32(short).to_f32();
            if bf16::from_f32(short).to_f32() == short { short } else { 0.5 }
        };
        (0..n).map(bf16_and_f16).collect()
    }

    fn inputs(n: usize) -> Vec<f32> {
        (0..n).map(|i| taipan_reference::uniform(1, i as u32) * 2.0 - 1.0).collect()
    }

    const SHAPES: [(usize, usize, usize); 10] = [
        (1, 1, 1),
        (1, 5, 3),
        (2, 4, 16),
        (3, 31, 33),
        (5, 32, 64),
        (6, 33, 7),
        (7, 130, 64),
        (65, 9, 257),
        (7, 1000, 80),
        (1, 2048, 100),
    ];

    #[test]
    fn products_agree_with_the_plain_twin_at_every_shape_and_format() {
        for format in WeightFormat::ALL {
            for (m, rows, cols) in SHAPES {
                let (x, w) = (inputs(m * cols), weights(rows * cols));
                let (mut fast, mut plain) = (vec![f32::NAN; m * rows], vec![0.0; m * rows]);
                PackedMatrix::pack(&w, cols, format).matmul(&x, &mut fast);
                let w = PackedMatrix::pack(&w, cols, format).to_dense();
                taipan_reference::matmul(&x, &w, None, rows, cols, &mut plain);
                for (a, b) in fast.iter().zip(&plain) {
                    assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{format:?} {m}x{rows}x{cols}: {a} against {b}");
                }
            }
        }
    }

    #[test]
    fn the_scalar_path_computes_the_same() {
        let w = weights(33 * 40);
        let x = inputs(3 * 40);
        for format in WeightFormat::ALL {
            let matrix = PackedMatrix::pack(&w, 40, format);
            let mut plain = vec![0.0; 3 * 33];
            taipan_reference::matmul(&x, &matrix.to_dense(), None, 33, 40, &mut plain);
            let wide: Vec<[f32; PANEL]> = match &matrix.panels {
                Panels::F32(p) => p[..40].to_vec(),
                Panels::F16(p) => simd::expanded(F16(&p[..40])),
                Panels::Bf16(p) => simd::expanded(simd::Bf16(&p[..40])),
                Panels::Quant(p) if p.quant == Quant::Q8 => simd::expanded(p.panel::<8>(0)),
                Panels::Quant(p) => simd::expanded(p.panel::<4>(0)),
            };
            let mut out = vec![[f32::NAN; PANEL]; 3];
            simd::scalar_product(&wide, &x, &mut out);
            for (t, row) in out.iter().enumerate() {
                for (r, got) in row.iter().enumerate() {
                    let b = plain[t * 33 + r];
                    assert!((got - b).abs() <= 1e-5 * (1.0 + b.abs()), "{format:?} {t} {r}: {got} against {b}");
                }
            }
        }
    }

    #[test]
    fn every_bit_pattern_of_a_short_format_is_widened_exactly() {
        // 65 536 patterns in 64 columns of 32 panels, NaN and infinity left out: no weight is either.
        for format in [WeightFormat::F16, WeightFormat::Bf16] {
            let value = |bits: u16| match format {
                WeightFormat::F16 => f16::from_bits(bits).to_f32(),
                _ => bf16::from_bits(bits).to_f32(),
            };
            let all: Vec<f32> = (0..=u16::MAX).map(value).map(|x| if x.is_finite() { x } else { 1.0 }).collect();
            let matrix = PackedMatrix::pack(&all, 64, format);
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&matrix.to_dense()), bits(&all));
            // One input at a time picks one column.
            for column in [0, 1, 63] {
                let mut x = vec![0.0; 2 * 64];
                (x[column], x[64 + column]) = (1.0, 1.0);
                let mut y = vec![f32::NAN; 2 * 1024];
                matrix.matmul(&x, &mut y);
                let mut once = vec![f32::NAN; 1024];
                matrix.matvec(&x[..64], &mut once);
                let expected: Vec<f32> = all.chunks_exact(64).map(|row| row[column]).collect();
                assert!(once.iter().zip(&expected).all(|(a, b)| a == b), "{format:?}: matvec, column {column}");
                assert!(y[1024..].iter().zip(&expected).all(|(a, b)| a == b), "{format:?}: matmul, column {column}");
            }
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_said() {
        let error = PackedMatrix::reserve(1 << 30, 1 << 28, WeightFormat::F32, || "a name".to_owned()).unwrap_err();
        assert!(error.to_string().contains("a name"), "{error}");
    }
}
