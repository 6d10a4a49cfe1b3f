//! Inputs that the cases of the chunked form share: decays as `chunk_cumsum` makes them.

use taipan_kernels::{Mixer, Rows};

use crate::builder::Builder;

/// Sizes of a segment and a mixer.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) tokens: usize,
    pub(crate) chunk: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) groups: usize,
    pub(crate) d_state: usize,
}

const fn size(tokens: usize, chunk: usize, heads: usize, head_dim: usize, groups: usize, d_state: usize) -> Size {
    Size { tokens, chunk, heads, head_dim, groups, d_state }
}

/// One, primes, a tile, a tile ± 1; one group, two, as many as heads.
pub(crate) const SIZES: [Size; 10] = [
    size(1, 64, 1, 1, 1, 1),
    size(64, 64, 2, 64, 1, 64),
    size(63, 64, 2, 65, 2, 63),
    size(65, 64, 2, 63, 1, 65),
    size(130, 64, 4, 16, 4, 128),
    size(47, 16, 6, 20, 3, 24),
    size(47, 13, 2, 5, 2, 7),
    size(5, 1, 2, 3, 1, 4),
    size(200, 64, 1, 130, 1, 16),
    size(150, 48, 4, 80, 2, 144),
];

impl Size {
    pub(crate) fn builder(self, kernel: &'static str, seed: u64) -> Builder {
        let Self { tokens, chunk, heads, head_dim, groups, d_state } = self;
        let shape =
            format!("{tokens} tokens in chunks of {chunk}, {heads} heads of {head_dim}, {groups} groups of {d_state}");
        Builder::new(kernel, shape, seed, tokens, 0)
    }

    pub(crate) fn mixer(self, b: &mut Builder) -> Mixer {
        b.mixer(self.heads, self.head_dim, self.groups, self.d_state, 4)
    }

    pub(crate) fn chunks(self) -> usize {
        self.tokens.div_ceil(self.chunk)
    }

    pub(crate) fn xbc(self, b: &mut Builder, mixer: &Mixer) -> Rows {
        b.rows("xbc", self.tokens, mixer.channels() as usize, -1.0, 1.0)
    }

    /// dt, dA and their sums, consistent with each other. Step sizes as a trained model has them: mostly small.
    pub(crate) fn da(self, b: &mut Builder, mixer: &Mixer) -> Rows {
        let h = self.heads;
        let a: Vec<f32> = (0..h).map(|_| b.number(1.0, 16.0)).collect();
        let raw = b.numbers(self.tokens * h, -6.0, 0.0);
        let packed: Vec<f32> = [vec![0.0; h], a.iter().map(|a| a.ln()).collect(), vec![0.0; h]].concat();
        let heads = taipan_reference::Heads { dt_bias: &packed[..h], a_log: &packed[h..2 * h], d: &packed[2 * h..] };
        let mut da = vec![0.0; self.tokens * 4 * h];
        taipan_reference::chunk_cumsum(&mixer.ssm(), &heads, self.chunk, &raw, h, 0, self.tokens, &mut da);
        b.rows_of("da", &da, 4 * h)
    }
}
