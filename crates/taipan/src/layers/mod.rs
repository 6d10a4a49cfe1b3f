//! From a description to lists of calls, one list per thing a session does.

mod attention;
mod experts;
mod mamba2;
mod mlp;
mod selective_attention;
mod shared;

use taipan_kernels::{
    Call, Concat, Embed, Epilogue, LogitMaxima, Matmul, Matrix, Matvec, Norm, Over, RmsNorm, Rows, Sample, Vector,
};

use crate::description::{Common, Description, Layer, Scratch, Shape};

/// What a layer needs to know besides its own weights.
struct Context<'a> {
    common: &'a Common,
    scratch: &'a Scratch,
    shape: Shape,
    eps: f32,
}

impl Context<'_> {
    fn chunk(&self) -> u32 {
        self.shape.chunk as u32
    }

    fn segment(&self) -> u32 {
        self.shape.segment as u32
    }

    /// A norm of the residual stream.
    fn norm(&self, weight: Vector) -> Norm {
        Norm { weight, eps: self.eps, groups: 1 }
    }
}

/// A product over all tokens of the segment.
fn matmul(cx: &Context<'_>, weight: Matrix, bias: Option<Vector>, x: Rows, y: Rows, epilogue: Epilogue) -> Call {
    let over = Over::Tokens { first: 0, most: cx.segment() };
    Matmul { weight, bias, x, y, epilogue, over, control: cx.common.control, selected: None }.into()
}

/// A product of the segment's last token.
fn matvec(
    cx: &Context<'_>,
    weight: Matrix,
    bias: Option<Vector>,
    norm: Option<Norm>,
    x: Rows,
    y: Rows,
    epilogue: Epilogue,
) -> Call {
    let control = cx.common.control;
    Matvec { weight, bias, norm, x, y, epilogue, control, selection: None, only_selected: false }.into()
}

/// The programs of a model: flat data, the same for every device, or what a device makes of each.
#[derive(Clone, Debug)]
pub struct Programs<P = Vec<Call>> {
    /// A segment through all layers; ends with the logits of its last token.
    pub prefill: P,
    /// One token through all layers; ends with its logits.
    pub decode: P,
    /// The next token from the logits.
    pub sample: P,
    /// After `prefill`: final norm of all tokens of the segment.
    pub final_norm: P,
    /// After `final_norm`: logits of one tile of tokens, a program per tile.
    pub logit_tiles: Vec<P>,
}

impl<P> Programs<P> {
    /// Something else of each program.
    #[must_use]
    pub fn map<Q>(&self, f: impl Fn(&P) -> Q) -> Programs<Q> {
        Programs {
            prefill: f(&self.prefill),
            decode: f(&self.decode),
            sample: f(&self.sample),
            final_norm: f(&self.final_norm),
            logit_tiles: self.logit_tiles.iter().map(f).collect(),
        }
    }
}

impl Programs {
    /// Writes out the programs of a model.
    #[must_use]
    pub fn new(d: &Description) -> Self {
        let cx = Context { common: &d.common, scratch: &d.scratch, shape: d.shape, eps: d.eps };
        let mut prefill = vec![embed(&cx, d)];
        if d.layers.iter().any(|layer| matches!(layer, Layer::Shared(_))) {
            prefill.push(Concat { a: d.scratch.hidden, b: None, out: d.scratch.shared.embedded }.into());
        }
        let mut decode = prefill.clone();
        for layer in &d.layers {
            layer.prefill(&cx, &mut prefill);
            layer.decode(&cx, &mut decode);
        }
        prefill.push(head(&cx, d));
        decode.push(head(&cx, d));
        let tiles = 0..d.shape.segment.div_ceil(d.shape.logit_rows);
        Self {
            prefill,
            decode,
            sample: sample(&cx),
            final_norm: vec![RmsNorm { norm: d.norm, eps: d.eps, x: d.scratch.hidden, out: d.scratch.normed }.into()],
            logit_tiles: tiles.map(|i| vec![logit_tile(&cx, d, i * d.shape.logit_rows)]).collect(),
        }
    }
}

impl Layer {
    fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        match self {
            Layer::Mamba2(layer) => layer.prefill(cx, calls),
            Layer::SelectiveAttention(layer) => layer.prefill(cx, calls),
            Layer::Attention(layer) => layer.prefill(cx, calls),
            Layer::Mlp(layer) => layer.prefill(cx, calls),
            Layer::Experts(layer) => layer.prefill(cx, calls),
            Layer::Shared(layer) => layer.prefill(cx, calls),
            Layer::Parallel(mixer, attention) => {
                mixer.prefill(cx, calls);
                // The same norm: what it made of the stream before the mixer added to it is still there.
                attention.prefill_normed(cx, calls);
            }
        }
    }

    fn decode(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        match self {
            Layer::Mamba2(layer) => {
                layer.read(cx, calls);
                layer.add(cx, calls);
            }
            Layer::SelectiveAttention(layer) => layer.decode(cx, calls),
            Layer::Attention(layer) => {
                layer.read(cx, calls);
                layer.add(cx, calls);
            }
            Layer::Mlp(layer) => layer.decode(cx, calls),
            Layer::Experts(layer) => layer.decode(cx, calls),
            Layer::Shared(layer) => layer.decode(cx, calls),
            Layer::Parallel(mixer, attention) => {
                // Both read the stream before either adds to it.
                mixer.read(cx, calls);
                attention.read(cx, calls);
                mixer.add(cx, calls);
                attention.add(cx, calls);
            }
        }
    }
}

fn embed(cx: &Context<'_>, d: &Description) -> Call {
    let Common { control, ids, recent, .. } = *cx.common;
    Embed { table: d.embedding, scale: d.embedding_scale, ids, control, recent, hidden: cx.scratch.hidden }.into()
}

fn head(cx: &Context<'_>, d: &Description) -> Call {
    matvec(cx, d.head, None, Some(cx.norm(d.norm)), cx.scratch.hidden, cx.common.logits, Epilogue::Store)
}

fn logit_tile(cx: &Context<'_>, d: &Description, first: usize) -> Call {
    Matmul {
        weight: d.head,
        bias: None,
        x: cx.scratch.normed,
        y: cx.scratch.logits,
        epilogue: Epilogue::Store,
        over: Over::Tokens { first: first as u32, most: d.shape.logit_rows as u32 },
        control: cx.common.control,
        selected: None,
    }
    .into()
}

fn sample(cx: &Context<'_>) -> Vec<Call> {
    let Common { control, ids, recent, options, logits } = *cx.common;
    let Scratch { candidates, adjusted, .. } = *cx.scratch;
    let maxima = LogitMaxima { logits, recent, control, options, maxima: candidates, adjusted };
    let first = LogitMaxima::pays(logits.cols).then_some(maxima.into());
    first.into_iter().chain([Sample { logits, recent, control, options, candidates, adjusted, ids }.into()]).collect()
}
