//! A model as data: its layers, what each weight is made of, and the buffers a session needs.
//!
//! Everything here follows from the config alone. An executor turns [`Recipes`] into memory; [`crate::layers`] turns the
//! description into lists of calls.

mod builder;
mod scratch;
mod shared;

use std::ops::Range;

use taipan_kernels::{Attention, BufferDesc, BufferId, Convolution, Element, Epilogue, Matrix, Mixer, Rows, Vector};
use taipan_reference::{GateMode, Projection, Routing};

use crate::config::{Config, HEAD};
use builder::Builder;
pub(crate) use builder::PAGE;
pub use shared::{Adapted, SharedBlock, SharedLayer, SharedScratch};

/// Where the elements of a weight come from, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A tensor of the checkpoint.
    Tensor(String),
    /// A tensor times factors: each for so many elements, in order.
    Scaled(String, Vec<(usize, f32)>),
    /// Some elements of a tensor, times a factor.
    Slice(String, Range<usize>, f32),
    /// Elements of two tensors in turn, as [`MatrixRecipe::interleave`] takes rows.
    InTurn(String, String),
    /// Elements of the two halves of a tensor in turn.
    Halves(String),
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
    /// Take rows of the two tensors, or of the two halves of one, in turn instead: gate and up projection, so that a pair
    /// of rows is one output.
    pub interleave: bool,
    /// Rows of the stacked tensors in front of the first that is taken.
    pub skip: usize,
    /// Of such halves, take the lower one first: the gate is below there.
    pub lower_first: bool,
    /// So many such pairs of halves lie one upon the other in one tensor: one for each expert.
    pub blocks: usize,
    /// Rows in all.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

impl MatrixRecipe {
    /// The rows of tensors as they are.
    pub(crate) fn stacked(tensors: &[String], rows: usize, cols: usize) -> Self {
        let tensors = tensors.to_vec();
        Self { tensors, interleave: false, skip: 0, lower_first: false, blocks: 1, rows, cols }
    }
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
        self.matrices.push(MatrixRecipe { interleave, ..MatrixRecipe::stacked(tensors, rows, cols) });
        Matrix { id: self.matrices.len() as u32 - 1, rows: rows as u32, cols: cols as u32 }
    }

    fn vector(&mut self, len: usize, parts: Vec<Part>) -> Vector {
        self.vectors.push(parts);
        Vector { id: self.vectors.len() as u32 - 1, len: len as u32 }
    }
}

/// Buffers by name, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    list: Vec<BufferDesc>,
    rows: Vec<Vec<u32>>,
}

impl Buffers {
    /// Adds a buffer; returns its id.
    pub fn add(&mut self, name: impl Into<String>, rows: usize, cols: usize, element: Element) -> u32 {
        self.list.push(BufferDesc { name: name.into(), rows, cols, element });
        self.list.len() as u32 - 1
    }

    /// Has equal buffers lie in rows, as dispatches bind them.
    pub fn in_rows(&mut self, rows: Vec<Vec<u32>>) {
        self.rows = rows;
    }

    /// Equal buffers that a dispatch binds as one.
    #[must_use]
    pub fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }

    /// The descriptions.
    #[must_use]
    pub fn list(&self) -> &[BufferDesc] {
        &self.list
    }

    /// Bytes on a GPU, where a buffer takes sixteen bytes or a multiple of them, even one of nothing.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.list.iter().map(|desc| desc.gpu_bytes().next_multiple_of(16).max(16)).sum()
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
    /// Factor of what is added.
    pub out_scale: f32,
    /// Ring of raw convolution rows.
    pub conv_state: BufferId,
    /// Recurrent state.
    pub ssm: BufferId,
}

/// A selective attention layer with its weights and state; its MLP is a layer of its own.
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
    /// Ring of keys and values.
    pub ring: BufferId,
    /// Token bucket and counters.
    pub sal: BufferId,
    /// What the gate decided, per token of the segment.
    pub selection: BufferId,
}

/// A convolution with its state.
#[derive(Clone, Copy, Debug)]
pub struct ConvLayer {
    /// Shapes and weights.
    pub conv: Convolution,
    /// Ring of raw rows.
    pub state: BufferId,
}

/// A causal attention layer over the whole text.
#[derive(Clone, Copy, Debug)]
pub struct AttentionLayer {
    /// Pre-norm.
    pub norm: Vector,
    /// Shapes.
    pub attention: Attention,
    /// Rotary frequencies.
    pub table: Option<Vector>,
    /// Key projection, then value projection.
    pub kv_proj: Matrix,
    /// Its bias.
    pub kv_bias: Option<Vector>,
    /// Query projection.
    pub q_proj: Matrix,
    /// Its bias.
    pub q_bias: Option<Vector>,
    /// Output projection.
    pub o_proj: Matrix,
    /// Its bias.
    pub o_bias: Option<Vector>,
    /// What keys and values, then queries, go through, where they do.
    pub convs: Option<[ConvLayer; 2]>,
    /// Factor of what is added.
    pub out_scale: f32,
    /// Keys and values of every position so far; grows with the text.
    pub cache: BufferId,
}

/// An MLP.
#[derive(Clone, Copy, Debug)]
pub struct MlpLayer {
    /// Pre-norm.
    pub norm: Vector,
    /// Gate and up projection, rows interleaved, or up projection alone.
    pub up: Matrix,
    /// Its bias.
    pub up_bias: Option<Vector>,
    /// What happens to its outputs.
    pub activation: Epilogue,
    /// Down projection.
    pub down: Matrix,
    /// Its bias.
    pub down_bias: Option<Vector>,
    /// Factor of what is added.
    pub out_scale: f32,
}

/// Experts, and the MLP beside them.
#[derive(Clone, Copy, Debug)]
pub struct ExpertsLayer {
    /// Pre-norm.
    pub norm: Vector,
    /// Scores the experts.
    pub router: Matrix,
    /// Which of them a token goes to.
    pub routing: Routing,
    /// Added to the scores for choosing.
    pub correction: Option<Vector>,
    /// Into and out of the width in which the experts compute, where it is not that of the stream.
    pub latent: Option<[Matrix; 2]>,
    /// Up projections of all experts, one upon the other.
    pub up: Matrix,
    /// What happens to their outputs.
    pub activation: Projection,
    /// Down projections.
    pub down: Matrix,
    /// What every token goes through.
    pub shared: Option<MlpLayer>,
}

/// One sub-layer: it reads the residual stream through its norm, and adds to it.
#[derive(Clone, Copy, Debug)]
pub enum Layer {
    /// A Mamba-2 block.
    Mamba2(Mamba2Layer),
    /// Selective attention.
    SelectiveAttention(SalLayer),
    /// Attention over the whole text.
    Attention(AttentionLayer),
    /// An MLP.
    Mlp(MlpLayer),
    /// Experts.
    Experts(ExpertsLayer),
    /// A Mamba-2 block and attention over the whole text side by side: both read the same norm.
    Parallel(Mamba2Layer, AttentionLayer),
    /// A Mamba-2 block behind a block that layers share.
    Shared(SharedLayer),
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
    /// What parts of the positions come to, of one token's attention.
    pub parts: Rows,
    /// Indirect arguments.
    pub args: BufferId,
    /// Activated MLP.
    pub mlp: Rows,
    /// Scores of experts.
    pub scores: Rows,
    /// Which experts a token goes to, and their weights.
    pub routes: BufferId,
    /// Input of the experts in a width of their own.
    pub latent: Rows,
    /// Activated experts.
    pub expanded: Rows,
    /// Output of the experts in a width of their own.
    pub combined: Rows,
    /// Of layers that share a block.
    pub shared: SharedScratch,
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
    /// Factor of every embedded token.
    pub embedding_scale: f32,
    /// Sub-layers in order.
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
    /// Describes a model.
    #[must_use]
    pub fn new(config: &Config, shape: Shape) -> Self {
        let (vocab, d, names) = (config.vocab_size, config.hidden_size, config.family.names());
        let mut recipes = Recipes::default();
        let mut state = Buffers::default();
        let mut scratch_buffers = Buffers::default();
        let common = Common::new(&mut state, vocab, shape.segment);
        let scratch = Scratch::new(&mut scratch_buffers, config, shape);
        let embedding = recipes.matrix(&[names.embedding.to_owned()], false, vocab, d);
        let mut builder = Builder::new(config, shape, &mut recipes, &mut state, &mut scratch_buffers);
        for (i, kind) in config.layer_types.iter().enumerate() {
            builder.layer(i, *kind);
        }
        let layers = builder.layers;
        let scales = &config.scales;
        let norm = recipes.vector(d, vec![Part::Scaled(names.final_norm.to_owned(), vec![(d, scales.logits)])]);
        let head =
            if config.tie_word_embeddings { embedding } else { recipes.matrix(&[HEAD.to_owned()], false, vocab, d) };
        // Layers add r·f(norm(h)). The stream kept here is h / r: layers then add f as it is, and a norm gives the same for
        // h / r as for h if its epsilon is divided by r².
        let r = f64::from(scales.residual);
        let eps = (f64::from(config.rms_norm_eps) / (r * r)) as f32;
        let embedding_scale = (f64::from(scales.embedding) / r) as f32;
        Self {
            shape,
            embedding,
            embedding_scale,
            layers,
            norm,
            eps,
            head,
            common,
            scratch,
            recipes,
            state,
            scratch_buffers,
        }
    }

    /// Has buffers of a session and of the model lie in rows, see [`Buffers::in_rows`].
    pub fn in_rows(&mut self, [state, scratch]: [Vec<Vec<u32>>; 2]) {
        self.state.in_rows(state);
        self.scratch_buffers.in_rows(scratch);
    }

    /// The selective attention layers, in order.
    pub fn sals(&self) -> impl Iterator<Item = &SalLayer> {
        self.layers.iter().filter_map(|l| match l {
            Layer::SelectiveAttention(s) => Some(s),
            _ => None,
        })
    }

    /// Buffers of a session whose entry is its position modulo their rows.
    pub fn rings(&self) -> impl Iterator<Item = BufferId> + '_ {
        let convs = |a: &AttentionLayer| a.convs.into_iter().flatten().map(|conv| conv.state).collect();
        self.layers.iter().flat_map(move |layer| match layer {
            Layer::Mamba2(m) => vec![m.conv_state],
            Layer::SelectiveAttention(s) => vec![s.ring],
            Layer::Attention(a) => convs(a),
            Layer::Parallel(m, a) => [vec![m.conv_state], convs(a)].concat(),
            Layer::Shared(s) => vec![s.mixer.conv_state],
            Layer::Mlp(_) | Layer::Experts(_) => Vec::new(),
        })
    }

    /// Buffers of a session that have a row for every token of the text; what they are described with is the least.
    pub fn caches(&self) -> impl Iterator<Item = BufferId> + '_ {
        self.layers.iter().filter_map(|l| match l {
            Layer::Attention(a) | Layer::Parallel(_, a) => Some(a.cache),
            Layer::Shared(s) => Some(s.cache),
            _ => None,
        })
    }
}
