//! What a case is made of, and how to make one.

use half::{bf16, f16};
use taipan::description::Buffers;
use taipan::run::cpu::VectorData;
use taipan_kernels::{
    Attention, BufferId, Call, Cooperative, Decl, Element, Kernel, Matrix, Mixer, MixerStep, Piece, Rows, Selected,
    TokenStep, Tuning, Vector, WeightFormat, control, selection,
};

use crate::Permutation;

/// Seeded inputs, a list of calls, and what to compare.
#[derive(Clone)]
pub struct Case {
    /// The kernel under test.
    pub kernel: &'static str,
    /// Sizes and switches, for people.
    pub shape: String,
    /// Seed of the inputs.
    pub seed: u64,
    pub(crate) format: WeightFormat,
    pub(crate) split_rows: usize,
    pub(crate) tokens: usize,
    pub(crate) matrices: Vec<(Vec<f32>, usize)>,
    pub(crate) vectors: Vec<VectorData>,
    pub(crate) state: Buffers,
    pub(crate) contents: Vec<Vec<u32>>,
    pub(crate) calls: Vec<Call>,
    pub(crate) outputs: Vec<BufferId>,
}

impl Case {
    /// Shader modules and overrides that this case runs.
    #[must_use]
    pub fn permutations(&self) -> Vec<Permutation> {
        self.calls.iter().map(|call| self.permutation(call, call.decl())).collect()
    }

    /// Those that a device with cooperative matrices runs in the place of others.
    #[must_use]
    pub fn cooperative(&self) -> Vec<Permutation> {
        let others = self
            .calls
            .iter()
            .filter_map(|call| Some((call, call.cooperative(call.matrix().map(|_| self.format), &Tuning::default())?)));
        let decls = |c: Cooperative| [Some(c.decl), c.many.map(|(_, decl)| decl)].into_iter().flatten();
        others.flat_map(|(call, c)| decls(c).map(|decl| self.permutation(call, decl))).collect()
    }

    /// Those that stand for several calls of it.
    pub(crate) fn blocks(&self) -> Vec<Permutation> {
        let blocks = MixerStep::of(&self.calls).map(|step| (MixerStep::decl(), step.launch(1, 2)));
        let groups = TokenStep::of(&self.calls).map(|step| (TokenStep::decl(), step.launch(1, 1)));
        groups.or(blocks).map(|(decl, launch)| Permutation::new(decl, Some(self.format), launch)).into_iter().collect()
    }

    fn permutation(&self, call: &Call, decl: &'static Decl) -> Permutation {
        let rows = call.matrix().map_or(0, |m| m.rows);
        Permutation::new(decl, call.matrix().map(|_| self.format), call.launch(Piece { first_row: 0, rows }))
    }
}

/// Collects the parts of a case.
pub(crate) struct Builder {
    case: Case,
    counter: u32,
    first: usize,
}

/// Tokens that a selection buffer has room for in cases.
pub(crate) const CAPACITY: usize = 600;

impl Builder {
    /// A case on a segment of `tokens` tokens whose first has position `first`.
    pub(crate) fn new(kernel: &'static str, shape: impl Into<String>, seed: u64, tokens: usize, first: usize) -> Self {
        let mut builder = Self {
            case: Case {
                kernel,
                shape: shape.into(),
                seed,
                format: WeightFormat::F32,
                split_rows: usize::MAX,
                tokens,
                matrices: vec![],
                vectors: vec![],
                state: Buffers::default(),
                contents: vec![],
                calls: vec![],
                outputs: vec![],
            },
            counter: 0,
            first,
        };
        let mut words = vec![0; control::LEN];
        words[control::CONSUMED] = (first + tokens) as u32;
        words[control::TOKENS] = tokens as u32;
        builder.words("control", words);
        builder
    }

    pub(crate) fn format(mut self, format: WeightFormat) -> Self {
        self.case.format = format;
        self.case.shape += &format!(" {}", format.name());
        self
    }

    /// Stores matrices in pieces of so many rows, as one too large for a binding is.
    pub(crate) fn split(mut self, rows: usize) -> Self {
        self.case.split_rows = rows;
        self.case.shape += &format!(" in pieces of {rows} rows");
        self
    }

    /// The control buffer is the first.
    pub(crate) fn control(&self) -> BufferId {
        BufferId::State(0)
    }

    pub(crate) fn set_control(&mut self, word: usize, value: u32) {
        self.case.contents[0][word] = value;
    }

    pub(crate) fn tokens(&self) -> usize {
        self.case.tokens
    }

    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// A number in [lo, hi), the next of the case's seed.
    pub(crate) fn number(&mut self, lo: f32, hi: f32) -> f32 {
        self.counter += 1;
        // The name takes part, so that two kernels do not share inputs.
        let salt = self.case.kernel.bytes().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        lo + (hi - lo) * taipan_reference::uniform(self.case.seed ^ salt << 8, self.counter)
    }

    pub(crate) fn numbers(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..n).map(|_| self.number(lo, hi)).collect()
    }

    /// A matrix scaled so that products are of size one. A format of floats holds its values exactly; one of integers
    /// quantises them the same way for every device.
    pub(crate) fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        let scale = 2.0 / (cols as f32).sqrt();
        let mut data = self.numbers(rows * cols, -scale, scale);
        match self.case.format {
            WeightFormat::F32 | WeightFormat::Q8 | WeightFormat::Q4 => {}
            WeightFormat::F16 => data.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
            WeightFormat::Bf16 => data.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        }
        self.case.matrices.push((data, cols));
        Matrix { id: self.case.matrices.len() as u32 - 1, rows: rows as u32, cols: cols as u32 }
    }

    pub(crate) fn vector(&mut self, data: Vec<f32>) -> Vector {
        let len = data.len() as u32;
        self.case.vectors.push(VectorData::F32(data));
        Vector { id: self.case.vectors.len() as u32 - 1, len }
    }

    pub(crate) fn random_vector(&mut self, n: usize, lo: f32, hi: f32) -> Vector {
        let data = self.numbers(n, lo, hi);
        self.vector(data)
    }

    pub(crate) fn table(&mut self, theta: f64, channels: usize) -> Vector {
        let words = taipan_reference::rotary_table(theta, channels);
        let len = words.len() as u32;
        self.case.vectors.push(VectorData::U32(words));
        Vector { id: self.case.vectors.len() as u32 - 1, len }
    }

    /// A buffer of words.
    pub(crate) fn words(&mut self, name: &str, words: Vec<u32>) -> BufferId {
        let id = self.case.state.add(name, 1, words.len(), Element::U32);
        self.case.contents.push(words);
        BufferId::State(id)
    }

    /// A matrix buffer with given contents.
    pub(crate) fn rows_of(&mut self, name: &str, data: &[f32], cols: usize) -> Rows {
        let id = self.case.state.add(name, data.len() / cols.max(1), cols, Element::F32);
        self.case.contents.push(data.iter().map(|x| x.to_bits()).collect());
        Rows { buffer: BufferId::State(id), cols: cols as u32 }
    }

    /// A matrix buffer of random numbers.
    pub(crate) fn rows(&mut self, name: &str, rows: usize, cols: usize, lo: f32, hi: f32) -> Rows {
        let data = self.numbers(rows * cols, lo, hi);
        self.rows_of(name, &data, cols)
    }

    /// An output buffer: filled with a number that no kernel produces, and compared afterwards.
    pub(crate) fn output(&mut self, name: &str, rows: usize, cols: usize) -> Rows {
        let out = self.rows_of(name, &vec![-77.25; rows * cols], cols);
        self.case.outputs.push(out.buffer);
        out
    }

    /// Compares this buffer too.
    pub(crate) fn check(&mut self, id: BufferId) {
        self.case.outputs.push(id);
    }

    /// A mixer with random weights.
    pub(crate) fn mixer(&mut self, heads: usize, head_dim: usize, groups: usize, d_state: usize, taps: usize) -> Mixer {
        let channels = heads * head_dim + 2 * groups * d_state;
        let mut per_head = self.numbers(heads, -3.0, 0.5);
        per_head.extend(self.numbers(heads, 0.0, 2.5));
        per_head.extend(self.numbers(heads, 0.5, 1.5));
        Mixer {
            heads: heads as u32,
            head_dim: head_dim as u32,
            groups: groups as u32,
            d_state: d_state as u32,
            taps: taps as u32,
            dt_limit: (0.0, f32::INFINITY),
            z_scale: 1.0,
            dt_scale: 1.0,
            per_head: self.vector(per_head),
            conv: self.random_vector(channels * (taps + 1), -0.7, 0.7),
        }
    }

    /// A selection in which every `every`-th token is selected.
    pub(crate) fn selection(&mut self, every: usize) -> Selected {
        let n = self.tokens();
        let mut words = vec![0; selection::len(CAPACITY)];
        let chosen: Vec<u32> = (0..n as u32).filter(|t| *t as usize % every == every - 1).collect();
        words[selection::COUNT] = chosen.len() as u32;
        for t in 0..n {
            words[selection::alphas() + t] = self.number(0.1, 0.9).to_bits();
        }
        for (r, t) in chosen.iter().enumerate() {
            words[selection::masks(CAPACITY) + *t as usize] = 1;
            words[selection::indices(CAPACITY) + r] = *t;
        }
        let selection = self.words("selection", words);
        let count = chosen.len() as u32;
        let args = self.words("args", vec![count.div_ceil(64), 8, 1, 0, count, 8, 1, 0, count.div_ceil(64), 8, 1, 0]);
        Selected { selection, capacity: CAPACITY as u32, args, row: 0 }
    }

    /// A ring of keys and values as a window has after `first` tokens.
    pub(crate) fn ring(&mut self, a: &Attention) -> BufferId {
        let (w, cols) = (a.window as usize, a.kv_cols() as usize);
        let filled = self.first().min(w);
        let mut data = self.numbers(filled * cols, -1.0, 1.0);
        data.resize(w * cols, 0.0);
        self.rows_of("ring", &data, cols).buffer
    }

    /// A convolution's ring as it is after `first` tokens: slots of positions before the text are zero.
    pub(crate) fn conv_ring(&mut self, taps: usize, channels: usize) -> BufferId {
        let mut data = self.numbers(self.first().min(taps) * channels, -2.0, 2.0);
        data.resize(taps * channels, 0.0);
        self.rows_of("conv_state", &data, channels).buffer
    }

    /// A call that is not the last.
    pub(crate) fn then(&mut self, call: impl Into<Call>) {
        self.case.calls.push(call.into());
    }

    pub(crate) fn call(mut self, call: impl Into<Call>) -> Case {
        self.then(call);
        self.build()
    }

    /// The case with the calls so far.
    pub(crate) fn build(self) -> Case {
        assert!(!self.case.outputs.is_empty(), "{}: a case compares something", self.case.kernel);
        self.case
    }
}
