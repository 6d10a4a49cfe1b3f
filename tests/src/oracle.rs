//! A model run by its lists of calls on the CPU, without a session: with the plain matrix products, or call by call.

use taipan::description::{Description, Shape};
use taipan::layers::Programs;
use taipan::run::cpu::{self, Memory};
use taipan::run::dense::Twins;
use taipan::{Config, WeightDtype, Weights};
use taipan_kernels::{Call, control, selection};
use taipan_reference::sal;

/// Lists, weights and memory of one text.
pub struct Oracle {
    /// The model.
    pub description: Description,
    /// Its lists.
    pub programs: Programs,
    /// Its weights.
    pub weights: cpu::Weights,
    /// State and scratch.
    pub memory: Memory,
    twins: Twins,
}

impl Oracle {
    /// A text at position 0.
    ///
    /// # Panics
    /// If the weights do not fit the config.
    #[must_use]
    pub fn new(config: &Config, weights: &Weights, segment: usize, twins: Twins) -> Self {
        let description = Description::new(config, Shape { segment, chunk: segment.min(16), logit_rows: segment });
        let weights =
            pollster::block_on(cpu::Weights::load(weights, &description, WeightDtype::Auto)).expect("the weights fit");
        let programs = Programs::new(&description);
        let memory = Memory::new(&description.state, &description.scratch_buffers);
        Self { description, programs, weights, memory, twins }
    }

    /// Bounds attention: `c` of all tokens and a burst (spec §1.3).
    pub fn bound(&mut self, c: f64, burst: f64) {
        for layer in self.description.sals() {
            let words = self.memory.u32_mut(layer.sal);
            let fixed = |x: f64| (x * 65_536.0).floor() as u32;
            (words[sal::CREDIT], words[sal::RATE], words[sal::BURST]) = (fixed(burst), fixed(c), fixed(burst));
        }
    }

    /// Puts a segment where the lists read it.
    pub fn stage(&mut self, ids: &[u32]) {
        let common = &self.description.common;
        self.memory.u32_mut(common.control)[control::TOKENS] = ids.len() as u32;
        self.memory.u32_mut(common.ids)[..ids.len()].copy_from_slice(ids);
    }

    /// Logits after the last token.
    #[must_use]
    pub fn logits(&self) -> Vec<f32> {
        logits(&self.description, &self.memory)
    }

    fn run(&mut self, list: impl Fn(&Programs) -> &[Call], tokens: usize) {
        cpu::run_with(self.twins, list(&self.programs), &self.weights, &mut self.memory, tokens);
    }

    /// Logits of every id, and what each layer's gate decided about it.
    pub fn prefill(&mut self, ids: &[u32]) -> (Vec<f32>, Vec<Vec<u8>>) {
        let vocab = self.description.embedding.rows as usize;
        let segment = self.description.shape.segment;
        let gates: Vec<_> = self.description.sals().map(|layer| layer.selection).collect();
        let (mut rows, mut masks) = (Vec::new(), vec![Vec::new(); gates.len()]);
        for part in ids.chunks(segment) {
            self.stage(part);
            self.run(|p| &p.prefill, part.len());
            for (mask, id) in masks.iter_mut().zip(&gates) {
                let words = self.memory.u32(*id);
                mask.extend(words[selection::masks(segment)..][..part.len()].iter().map(|m| *m as u8));
            }
            self.run(|p| &p.final_norm, part.len());
            self.run(|p| &p.logit_tiles[0], part.len());
            rows.extend_from_slice(&self.memory.f32(self.description.scratch.logits.buffer)[..part.len() * vocab]);
        }
        (rows, masks)
    }

    /// Logits of every id, one at a time.
    pub fn decode(&mut self, ids: &[u32]) -> Vec<f32> {
        let mut rows = Vec::new();
        for id in ids {
            self.stage(&[*id]);
            self.run(|p| &p.decode, 1);
            rows.extend(self.logits());
        }
        rows
    }
}

/// Logits after the last token, in any memory of the model.
#[must_use]
pub fn logits(description: &Description, memory: &Memory) -> Vec<f32> {
    memory.f32(description.common.logits.buffer).to_vec()
}
