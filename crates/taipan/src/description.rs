//! A model as data: its layers, what each weight is made of, and the buffers a session needs.
//!
//! Everything here follows from the config alone. An executor turns [`Recipes`] into memory; [`crate::layers`] turns the
//! description into lists of calls.

use taipan_kernels::{
    Attention, BufferDesc, BufferId, Element, Matrix, Mixer, Rows, Vector, control, sampler, selection,
};
use taipan_reference::{GateMode, RECENT, sal};

use crate::config::{Config, HEAD, LayerType, Mamba2Config, Names, SalConfig};

/// Where the elements of a weight come from, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A tensor of the checkpoint.
    Tensor(String),
    /// So many zeros: a bias that the checkpoint does not have.
    Zeros(usize),
    /// Words computed from the config (rotary frequencies).
    Words(Vec<u32>),
}

/// How to make a weight matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixRecipe {
    /// Tensors `[rows, cols]`, stacked by rows.
    pub tensors: Vec<String>,
    /// Take rows of the two tensors in turn instead: gate and up projection, so that a pair of rows is one output.
    pub interleave: bool,
    /// Rows in all.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// What every weight is made of; ids of [`Matrix`] and [`Vector`] index these lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipes {
    /// Matrices, in the storage format that the user chooses.
    pub matrices: Vec<MatrixRecipe>,
    /// Vectors, always f32 (or words).
    pub vectors: Vec<Vec<Part>>,
}

impl Recipes {
    fn matrix(&mut self, tensors: &[String], interleave: bool, rows: usize, cols: usize) -> Matrix {
        self.matrices.push(MatrixRecipe { tensors: tensors.to_vec(), interleave, rows, cols });
        Matrix { id: self.matrices.len() as u32 - 1, rows: rows as u32, cols: cols as u32 }
    }

    fn vector(&mut self, len: usize, parts: Vec<Part>) -> Vector {
        self.vectors.push(parts);
        Vector { id: self.vectors.len() as u32 - 1, len: len as u32 }
    }
}

/// Buffers by name, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Vec<BufferDesc>);

impl Buffers {
    /// Adds a buffer; returns its id.
    pub fn add(&mut self, name: impl Into<String>, rows: usize, cols: usize, element: Element) -> u32 {
        self.0.push(BufferDesc { name: name.into(), rows, cols, element });
        self.0.len() as u32 - 1
    }

    /// The descriptions.
    #[must_use]
    pub fn list(&self) -> &[BufferDesc] {
        &self.0
    }

    /// Bytes on a GPU.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(BufferDesc::gpu_bytes).sum()
    }
}

/// A Mamba-2 block with its weights and state.
#[derive(Clone, Copy, Debug)]
pub struct Mamba2Layer {
    /// Pre-norm.
    pub norm: Vector,
    /// z, x, B, C, dt.
    pub in_proj: Matrix,
    /// Its bias.
    pub in_bias: Option<Vector>,
    /// Convolution and recurrence.
    pub mixer: Mixer,
    /// Order of norm and gate.
    pub gate_mode: GateMode,
    /// Weight of the gated norm, where there is one.
    pub gated_norm: Option<Vector>,
    /// Its epsilon.
    pub gated_eps: f32,
    /// Back to the residual stream.
    pub out_proj: Matrix,
    /// Its bias.
    pub out_bias: Option<Vector>,
    /// Ring of raw convolution rows.
    pub conv_state: BufferId,
    /// Recurrent state.
    pub ssm: BufferId,
}

/// A selective attention layer with its weights and state.
#[derive(Clone, Copy, Debug)]
pub struct SalLayer {
    /// Pre-norm, gate weight, gate bias.
    pub gate: Vector,
    /// Shapes.
    pub attention: Attention,
    /// Rotary frequencies.
    pub table: Option<Vector>,
    /// Key projection, then value projection.
    pub kv_proj: Matrix,
    /// Query projection.
    pub q_proj: Matrix,
    /// Output projection.
    pub o_proj: Matrix,
    /// Norm in front of the MLP.
    pub mlp_norm: Vector,
    /// Gate and up projection, rows interleaved.
    pub gate_up: Matrix,
    /// Down projection.
    pub down: Matrix,
    /// Ring of keys and values.
    pub ring: BufferId,
    /// Token bucket and counters.
    pub sal: BufferId,
    /// What the gate decided, per token of the segment.
    pub selection: BufferId,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub enum Layer {
    /// A Mamba-2 block.
    Mamba2(Mamba2Layer),
    /// Selective attention and its MLP.
    SelectiveAttention(SalLayer),
}

/// Session buffers that every model has.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    /// Counters.
    pub control: BufferId,
    /// Token ids of the segment; the sampled one goes to the first place.
    pub ids: BufferId,
    /// Ring of recent ids.
    pub recent: BufferId,
    /// Sampling options.
    pub options: BufferId,
    /// Logits after the last consumed token.
    pub logits: Rows,
}

/// Scratch buffers, shared by all layers.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// Residual stream.
    pub hidden: Rows,
    /// Normed input of a sub-layer.
    pub normed: Rows,
    /// in_proj output.
    pub projected: Rows,
    /// Convolved x, B, C.
    pub xbc: Rows,
    /// Step sizes and decays.
    pub da: Rows,
    /// C·Bᵀ.
    pub cb: Rows,
    /// Chunk states.
    pub states: Rows,
    /// Output of the recurrence.
    pub y: Rows,
    /// After the gated norm.
    pub gated: Rows,
    /// Keys and values.
    pub kv: Rows,
    /// Queries.
    pub q: Rows,
    /// Attention output.
    pub attended: Rows,
    /// Indirect arguments.
    pub args: BufferId,
    /// Activated MLP.
    pub mlp: Rows,
    /// Logits of a tile of tokens.
    pub logits: Rows,
    /// Sampler's list.
    pub candidates: BufferId,
    /// Sampler's logits.
    pub adjusted: BufferId,
}

/// Sizes that are choices of the runtime, not of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Most tokens of one segment.
    pub segment: usize,
    /// Tokens of a chunk, at most 64.
    pub chunk: usize,
    /// Tokens of a tile of logits.
    pub logit_rows: usize,
}

/// The model as data.
#[derive(Clone, Debug)]
pub struct Description {
    /// Sizes of segment, chunk and tile.
    pub shape: Shape,
    /// Token embedding.
    pub embedding: Matrix,
    /// Layers in order.
    pub layers: Vec<Layer>,
    /// Final norm.
    pub norm: Vector,
    /// Epsilon of every norm but the gated one.
    pub eps: f32,
    /// Logits.
    pub head: Matrix,
    /// Buffers that every session has.
    pub common: Common,
    /// Scratch buffers.
    pub scratch: Scratch,
    /// What the weights are made of.
    pub recipes: Recipes,
    /// Buffers of a session.
    pub state: Buffers,
    /// Buffers of the model.
    pub scratch_buffers: Buffers,
}

impl Description {
    /// Describes a Taipan (or pure Mamba-2) model.
    #[must_use]
    pub fn new(config: &Config, shape: Shape) -> Self {
        let (vocab, d, names) = (config.vocab_size, config.hidden_size, config.family.names());
        let mut recipes = Recipes::default();
        let mut state = Buffers::default();
        let mut scratch_buffers = Buffers::default();
        let common = Common::new(&mut state, vocab, shape.segment);
        let scratch = Scratch::new(&mut scratch_buffers, config, shape);
        let embedding = recipes.matrix(&[names.embedding.to_owned()], false, vocab, d);
        let mut layers = Vec::with_capacity(config.layer_types.len());
        for (i, kind) in config.layer_types.iter().enumerate() {
            let mut b = LayerBuilder {
                prefix: format!("{}{i}.", names.layer),
                names,
                hidden: d,
                recipes: &mut recipes,
                state: &mut state,
                scratch: &mut scratch_buffers,
            };
            layers.push(match (kind, &config.mamba2, &config.selective_attention) {
                (LayerType::Mamba2, Some(m), _) => Layer::Mamba2(b.mamba2(m)),
                (LayerType::SelectiveAttention, _, Some(s)) => Layer::SelectiveAttention(b.sal(s, shape.segment)),
                _ => unreachable!("a parsed config has the section of each of its layers"),
            });
        }
        let norm = recipes.vector(d, vec![Part::Tensor(names.final_norm.to_owned())]);
        let head =
            if config.tie_word_embeddings { embedding } else { recipes.matrix(&[HEAD.to_owned()], false, vocab, d) };
        let eps = config.rms_norm_eps;
        Self { shape, embedding, layers, norm, eps, head, common, scratch, recipes, state, scratch_buffers }
    }

    /// The selective attention layers, in order.
    pub fn sals(&self) -> impl Iterator<Item = &SalLayer> {
        self.layers.iter().filter_map(|l| match l {
            Layer::SelectiveAttention(s) => Some(s),
            Layer::Mamba2(_) => None,
        })
    }
}

impl Common {
    fn new(state: &mut Buffers, vocab: usize, segment: usize) -> Self {
        let mut word = |name, n| BufferId::State(state.add(name, 1, n, Element::U32));
        let (control, ids) = (word("control", control::LEN), word("ids", segment));
        let (recent, options) = (word("recent", RECENT), word("options", sampler::LEN));
        let logits = state.add("logits", 1, vocab, Element::F32);
        let logits = Rows { buffer: BufferId::State(logits), cols: vocab as u32 };
        Self { control, ids, recent, options, logits }
    }
}

impl Scratch {
    fn new(buffers: &mut Buffers, config: &Config, shape: Shape) -> Self {
        let (d, t, q) = (config.hidden_size, shape.segment, shape.chunk);
        let chunks = t.div_ceil(q);
        let mut rows = |name: &str, rows: usize, cols: usize| {
            let id = buffers.add(name, rows, cols, Element::F32);
            Rows { buffer: BufferId::Scratch(id), cols: cols as u32 }
        };
        // A model without layers of a kind keeps empty buffers of that kind: nothing refers to them.
        let m = config.mamba2.as_ref().filter(|_| config.count(LayerType::Mamba2) > 0);
        let with = |f: &dyn Fn(&Mamba2Config) -> usize| m.map_or(0, f);
        let (inner, heads) = (with(&|m| m.d_inner()), with(&|m| m.num_heads));
        let (groups, n) = (with(&|m| m.n_groups), with(&|m| m.d_state));
        let s = config.selective_attention.as_ref().filter(|_| config.count(LayerType::SelectiveAttention) > 0);
        Self {
            hidden: rows("hidden", t, d),
            normed: rows("normed", t, d),
            projected: rows("projected", t, with(&|m| m.in_proj_rows())),
            xbc: rows("xbc", t, with(&|m| m.conv_channels())),
            da: rows("da", t, 4 * heads),
            cb: rows("cb", chunks * groups * q, q),
            states: rows("states", chunks * inner, n),
            y: rows("y", t, inner),
            gated: rows("gated", t, inner),
            kv: rows("kv", t, s.map_or(0, |s| 2 * s.kv_width())),
            q: rows("q", t, s.map_or(0, SalConfig::q_width)),
            attended: rows("attended", t, s.map_or(0, SalConfig::q_width)),
            mlp: rows("mlp", t, s.map_or(0, |s| s.intermediate_size)),
            logits: rows("logit tile", shape.logit_rows, config.vocab_size),
            adjusted: rows("adjusted logits", 1, config.vocab_size).buffer,
            args: BufferId::Scratch(buffers.add("indirect arguments", 3, 4, Element::U32)),
            candidates: BufferId::Scratch(buffers.add("candidates", 1, config.vocab_size, Element::U32)),
        }
    }
}

struct LayerBuilder<'a> {
    prefix: String,
    names: &'static Names,
    hidden: usize,
    recipes: &'a mut Recipes,
    state: &'a mut Buffers,
    scratch: &'a mut Buffers,
}

impl LayerBuilder<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Matrix {
        let tensor = self.name(name);
        self.recipes.matrix(&[tensor], false, rows, cols)
    }

    fn vector(&mut self, len: usize, names: &[&str]) -> Vector {
        let parts = names.iter().map(|n| Part::Tensor(self.name(n))).collect();
        self.recipes.vector(len, parts)
    }

    fn state(&mut self, name: &str, rows: usize, cols: usize, element: Element) -> BufferId {
        let name = self.name(name);
        BufferId::State(self.state.add(name, rows, cols, element))
    }

    fn mamba2(&mut self, m: &Mamba2Config) -> Mamba2Layer {
        let d = self.hidden;
        let (inner, channels) = (m.d_inner(), m.conv_channels());
        let name = |name: &str| format!("{}{name}", self.names.mixer);
        let [in_proj, in_bias, out_proj, out_bias, norm] =
            ["in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias", "norm.weight"].map(name);
        let [conv, conv_bias, dt_bias, a_log, skip] =
            ["conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D"].map(name);
        let bias = if m.conv_bias { Part::Tensor(self.name(&conv_bias)) } else { Part::Zeros(channels) };
        let conv_parts = vec![Part::Tensor(self.name(&conv)), bias];
        let mixer = Mixer {
            heads: m.num_heads as u32,
            head_dim: m.head_dim as u32,
            groups: m.n_groups as u32,
            d_state: m.d_state as u32,
            taps: m.d_conv as u32,
            dt_limit: m.time_step_limit,
            per_head: self.vector(3 * m.num_heads, &[&dt_bias, &a_log, &skip]),
            conv: self.recipes.vector(channels * (m.d_conv + 1), conv_parts),
        };
        Mamba2Layer {
            norm: self.vector(d, &[self.names.norm]),
            in_proj: self.matrix(&in_proj, m.in_proj_rows(), d),
            in_bias: m.in_bias.then(|| self.vector(m.in_proj_rows(), &[&in_bias])),
            mixer,
            gate_mode: m.gate,
            gated_norm: (m.gate != GateMode::GateOnly).then(|| self.vector(inner, &[&norm])),
            gated_eps: m.norm_eps,
            out_proj: self.matrix(&out_proj, d, inner),
            out_bias: m.out_bias.then(|| self.vector(d, &[&out_bias])),
            conv_state: self.state("conv", m.d_conv, channels, Element::F32),
            ssm: self.state("ssm", inner, m.d_state, Element::F32),
        }
    }

    fn sal(&mut self, s: &SalConfig, segment: usize) -> SalLayer {
        let (d, f) = (self.hidden, s.intermediate_size);
        let attention = Attention {
            heads: s.num_heads as u32,
            kv_heads: s.num_key_value_heads as u32,
            head_dim: s.head_dim as u32,
            window: s.window as u32,
            scale: (s.head_dim as f32).sqrt().recip(),
        };
        let table = s.rope_theta.map(|theta| {
            let words = taipan_reference::rotary_table(theta, s.head_dim);
            self.recipes.vector(words.len(), vec![Part::Words(words)])
        });
        let kv = ["attn.k_proj.weight", "attn.v_proj.weight"].map(|n| self.name(n));
        let gate_up = ["mlp.gate_proj.weight", "mlp.up_proj.weight"].map(|n| self.name(n));
        let name = self.name("selection");
        let selection = self.scratch.add(name, 1, selection::len(segment), Element::U32);
        SalLayer {
            gate: self.vector(3 * d + 2, &["norm.weight", "gate.weight", "gate.bias"]),
            attention,
            table,
            kv_proj: self.recipes.matrix(&kv, false, 2 * s.kv_width(), d),
            q_proj: self.matrix("attn.q_proj.weight", s.q_width(), d),
            o_proj: self.matrix("attn.o_proj.weight", d, s.q_width()),
            mlp_norm: self.vector(d, &["mlp_norm.weight"]),
            gate_up: self.recipes.matrix(&gate_up, true, 2 * f, d),
            down: self.matrix("mlp.down_proj.weight", d, f),
            ring: self.state("window", s.window, 2 * s.kv_width(), Element::F32),
            sal: self.state("sal", 1, sal::LEN, Element::U32),
            selection: BufferId::Scratch(selection),
        }
    }
}
