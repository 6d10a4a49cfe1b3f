//! Cases of every kernel: seeded inputs at awkward sizes, run on a device and compared with the CPU twin.
//!
//! The same list serves `cargo test`, `taipan validate --kernels` and the page. A case is a tiny program: weights, buffers
//! with their contents, calls, and the buffers to compare.

#![forbid(unsafe_code)]

mod attention;
mod builder;
mod run;
mod ssd;
mod tolerance;

mod bmm_chunk;
mod causal_conv1d;
mod chunk_cumsum;
mod chunk_scan;
mod chunk_state;
mod compact;
mod concat;
mod conv_append;
mod embed;
mod experts;
mod geglu;
mod kv_append;
mod logit_maxima;
mod matmul;
mod matvec;
mod merge_attention;
mod mixer_step;
mod mixer_update;
mod rms_norm;
mod rms_norm_gated;
mod rotary;
mod route;
mod sample;
mod state_passing;
mod token_attention;
mod token_gate;
mod token_gate_kv;
mod token_step;
mod window_attention;

use taipan_kernels::Word;

pub use builder::Case;
pub use run::{Outputs, Report, compare, complaints, elements, expected, on_device, on_gpu, run};
pub use tolerance::tolerance;

/// All cases, always the same for a seed.
#[must_use]
pub fn all(seed: u64) -> Vec<Case> {
    let groups = [
        embed::cases,
        rms_norm::cases,
        rms_norm_gated::cases,
        matvec::cases,
        matmul::cases,
        causal_conv1d::cases,
        conv_append::cases,
        mixer_update::cases,
        chunk_cumsum::cases,
        bmm_chunk::cases,
        chunk_state::cases,
        state_passing::cases,
        chunk_scan::cases,
        token_gate::cases,
        token_gate_kv::cases,
        compact::cases,
        rotary::cases,
        window_attention::cases,
        token_attention::cases,
        merge_attention::cases,
        kv_append::cases,
        route::cases,
        experts::cases,
        logit_maxima::cases,
        sample::cases,
        concat::cases,
        geglu::cases,
    ];
    groups.iter().flat_map(|cases| cases(seed)).collect()
}

/// Cases of kernels that stand for several calls where a device can run them: elsewhere the calls run one by one.
#[must_use]
pub fn blocks(seed: u64) -> Vec<Case> {
    [mixer_step::cases(seed), token_step::cases(seed)].concat()
}

/// Names of the kernels, each once.
#[must_use]
pub fn kernels() -> Vec<&'static str> {
    let mut names: Vec<_> = all(0).iter().map(|case| case.kernel).collect();
    names.dedup();
    names
}

/// One entry per shader module and set of override values that the cases use: what a compiler has to accept.
#[must_use]
pub fn permutations() -> Vec<Permutation> {
    distinct(all(0), Case::permutations)
}

/// As [`permutations`], of the shaders with cooperative matrices.
#[must_use]
pub fn cooperative() -> Vec<Permutation> {
    distinct(all(0), Case::cooperative)
}

/// As [`permutations`], of the shaders that stand for several calls.
#[must_use]
pub fn block_permutations() -> Vec<Permutation> {
    distinct(blocks(0), Case::blocks)
}

fn distinct(cases: Vec<Case>, of: impl Fn(&Case) -> Vec<Permutation>) -> Vec<Permutation> {
    let mut list: Vec<Permutation> = cases.iter().flat_map(of).collect();
    list.sort_by(|a, b| a.key().cmp(&b.key()));
    list.dedup_by(|a, b| a.key() == b.key());
    list
}

/// A shader module with values for its overrides.
#[derive(Clone, Debug)]
pub struct Permutation {
    /// The kernel.
    pub decl: &'static taipan_kernels::Decl,
    /// Weight storage, for a kernel that reads a matrix.
    pub format: Option<taipan_kernels::WeightFormat>,
    /// Override values.
    pub overrides: Vec<(&'static str, f64)>,
    /// Names of the members of `Params`, in order, and whether they are floats.
    pub params: Vec<(&'static str, bool)>,
}

impl Permutation {
    fn new(
        decl: &'static taipan_kernels::Decl,
        format: Option<taipan_kernels::WeightFormat>,
        launch: taipan_kernels::Launch,
    ) -> Self {
        let params = launch.params.iter().map(|(name, word)| (*name, matches!(word, Word::F(_)))).collect();
        Self { decl, format, overrides: launch.overrides, params }
    }

    fn key(&self) -> (&'static str, Option<taipan_kernels::WeightFormat>, Vec<(&'static str, u64)>) {
        let overrides = self.overrides.iter().map(|(n, v)| (*n, v.to_bits())).collect();
        (self.decl.name, self.format, overrides)
    }

    /// `kernel` or `kernel.format`.
    #[must_use]
    pub fn module_name(&self) -> String {
        match self.format {
            Some(format) => format!("{}.{}", self.decl.name, format.name()),
            None => self.decl.name.to_owned(),
        }
    }
}
