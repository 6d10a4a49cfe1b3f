//! Panels of small integers with the scales of their groups.

use half::f16;
use pulp::Arch;
use taipan_kernels::GROUP;

use super::simd::{Expand, F16, Integers, PanelTimesRow};
use super::{Line, PANEL, WORDS};
use crate::error::Result;
use crate::memory::reserve_weights;
use crate::quant::{Quant, QuantRows};

/// Panels of a quantised matrix. A word holds two columns of int8 or four of int4 for two rows, `j` and `j + 16`, each plus half
/// of what its bits can count, so that it is not negative; scales are f16, panel by panel, as in a matrix of f16.
#[derive(Clone, Debug)]
pub(super) struct QuantPanels {
    pub(super) quant: Quant,
    cols: usize,
    words: Vec<Line>,
    scales: Vec<Line>,
}

/// Bits of an integer.
fn bits(quant: Quant) -> usize {
    match quant {
        Quant::Q8 => 8,
        Quant::Q4 => 4,
    }
}

/// Columns that share a word.
fn columns(quant: Quant) -> usize {
    16 / bits(quant)
}

impl QuantPanels {
    /// Memory for so many panels.
    pub(super) fn reserve(quant: Quant, panels: usize, cols: usize, what: impl FnOnce() -> String) -> Result<Self> {
        let what = what();
        let words = reserve_weights(panels.saturating_mul(cols.div_ceil(columns(quant))), || what.clone())?;
        let scales = reserve_weights(panels.saturating_mul(cols.div_ceil(GROUP)), || what)?;
        Ok(Self { quant, cols, words, scales })
    }

    /// Bytes of a panel.
    pub(super) fn panel_bytes(quant: Quant, cols: usize) -> usize {
        (cols.div_ceil(columns(quant)) + cols.div_ceil(GROUP)) * size_of::<Line>()
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        (self.words.capacity() + self.scales.capacity()) * size_of::<Line>()
    }

    /// Writes rows that are still zero.
    pub(super) fn set(&mut self, first: usize, rows: &QuantRows) {
        let (count, groups, per_row) = (rows.len(), rows.groups(), self.words_of_a_row());
        let panels = (first + count).div_ceil(PANEL);
        self.words.resize(self.words.len().max(panels * per_row), Line::default());
        self.scales.resize(self.scales.len().max(panels * groups), Line::default());
        let bias = 1 << (bits(self.quant) - 1);
        for row in 0..count {
            let place = Place::of(first + row);
            for group in 0..groups {
                let (scale, integers) = rows.group(row, group);
                self.scales[place.panel * groups + group][place.j] |= u32::from(scale.to_bits()) << (16 * place.half);
                for (column, q) in (group * GROUP..self.cols).zip(integers) {
                    let shift = self.shift(column, &place);
                    let word = &mut self.words[place.panel * per_row + column / columns(self.quant)][place.j];
                    *word |= ((i32::from(q) + bias) as u32) << shift;
                }
            }
        }
    }

    /// Reads one row.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let place = Place::of(row);
        let words = &self.words[place.panel * self.words_of_a_row()..];
        let scales = &self.scales[place.panel * self.cols.div_ceil(GROUP)..];
        let bits = bits(self.quant);
        for (column, out) in out.iter_mut().enumerate() {
            let scale = f16::from_bits((scales[column / GROUP][place.j] >> (16 * place.half)) as u16).to_f32();
            let word = words[column / columns(self.quant)][place.j];
            let biased = word >> self.shift(column, &place) & ((1 << bits) - 1);
            *out = (biased as f32 - (1 << (bits - 1)) as f32) * scale;
        }
    }

    /// `out = panel · x`.
    pub(super) fn times_row(&self, arch: Arch, panel: usize, x: &[f32], out: &mut [f32; PANEL]) {
        match self.quant {
            Quant::Q8 => arch.dispatch(PanelTimesRow { panel: &self.panel::<8>(panel), x, out }),
            Quant::Q4 => arch.dispatch(PanelTimesRow { panel: &self.panel::<4>(panel), x, out }),
        }
    }

    /// A panel as floats, in `out`.
    pub(super) fn expand<'a>(&self, arch: Arch, panel: usize, out: &'a mut Vec<[f32; PANEL]>) -> &'a [[f32; PANEL]] {
        match self.quant {
            Quant::Q8 => arch.dispatch(Expand { panel: self.panel::<8>(panel), out }),
            Quant::Q4 => arch.dispatch(Expand { panel: self.panel::<4>(panel), out }),
        }
    }

    pub(super) fn panel<const BITS: u32>(&self, panel: usize) -> Integers<'_, BITS> {
        fn part(all: &[Line], panel: usize, size: usize) -> &[Line] {
            &all[panel * size..(panel + 1) * size]
        }
        let scales = F16(part(&self.scales, panel, self.cols.div_ceil(GROUP)));
        Integers { cols: self.cols, words: part(&self.words, panel, self.words_of_a_row()), scales }
    }

    fn words_of_a_row(&self) -> usize {
        self.cols.div_ceil(columns(self.quant))
    }

    fn shift(&self, column: usize, place: &Place) -> usize {
        (2 * (column % columns(self.quant)) + place.half) * bits(self.quant)
    }
}

/// Where a row is: in a panel, in the word of a lane, in a half of it.
struct Place {
    panel: usize,
    j: usize,
    half: usize,
}

impl Place {
    fn of(row: usize) -> Self {
        Self { panel: row / PANEL, j: row % WORDS, half: row % PANEL / WORDS }
    }
}
