//! Arithmetic and traffic of a call: what it cannot do without, counted from its arguments.
//!
//! A multiply-add is two operations. Weights count once a dispatch, in their storage; the state counts as often as it is
//! read and written; activations are what a kernel takes from and leaves for its neighbours. `README.md` has the table.

use taipan::description::Description;
use taipan_kernels::{Attention, Call, Epilogue, GROUP, Kernel, LogitMaxima, Matrix, Mixer, Over, WeightFormat};

/// What one dispatch, or a list of them, does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes of weights read.
    pub weights: f64,
    /// Bytes of session state read and written.
    pub state: f64,
    /// Bytes of activations read and written.
    pub activations: f64,
}

impl Work {
    /// Weights once, state read and written.
    #[must_use]
    pub fn floor_bytes(&self) -> f64 {
        self.weights + self.state
    }

    /// All traffic.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.weights + self.state + self.activations
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| Self {
            flops: a.flops + b.flops,
            weights: a.weights + b.weights,
            state: a.state + b.state,
            activations: a.activations + b.activations,
        })
    }
}

/// What the count depends on besides the call.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Tokens of the segment.
    pub tokens: usize,
    /// Position of its first token.
    pub first: usize,
    /// Share of tokens that attend.
    pub selected: f64,
    /// Bytes of a matrix element.
    pub element: f64,
}

/// Bytes of a matrix element in a format, with its share of a scale.
#[must_use]
pub fn element_bytes(format: WeightFormat) -> f64 {
    format.row_bytes(GROUP) as f64 / GROUP as f64
}

/// The work of a list of calls.
#[must_use]
pub fn total(calls: &[Call], c: &Conditions) -> Work {
    calls.iter().map(|call| work(call, c)).sum()
}

/// Bytes of all weights of a model with matrices of `element` bytes.
#[must_use]
pub fn model_bytes(d: &Description, parameters: u64, element: f64) -> f64 {
    let matrices: usize = d.recipes.matrices.iter().map(|m| m.rows * m.cols).sum();
    matrices as f64 * element + 4.0 * (parameters - matrices as u64) as f64
}

fn product(m: Matrix, rows: f64, c: &Conditions) -> Work {
    let elements = f64::from(m.rows) * f64::from(m.cols);
    let (inputs, outputs) = (rows * f64::from(m.cols), rows * f64::from(m.rows));
    Work {
        flops: 2.0 * elements * rows,
        weights: elements * c.element,
        state: 0.0,
        activations: 4.0 * (inputs + outputs),
    }
}

/// An epilogue reads what it adds to; SwiGLU leaves half as many outputs.
fn epilogue(e: Epilogue, m: Matrix, rows: f64, mut w: Work) -> Work {
    let outputs = rows * f64::from(m.rows);
    match e {
        Epilogue::Store => {}
        Epilogue::Add(_) => (w.flops, w.activations) = (w.flops + outputs, w.activations + 4.0 * outputs),
        Epilogue::Mix => (w.flops, w.activations) = (w.flops + 3.0 * outputs, w.activations + 4.0 * outputs),
        Epilogue::Relu2 => w.flops += 2.0 * outputs,
        Epilogue::Swiglu(_) => (w.flops, w.activations) = (w.flops + 2.5 * outputs, w.activations - 2.0 * outputs),
    }
    w
}

fn norm(cols: f64, rows: f64) -> f64 {
    4.0 * cols * rows
}

struct Sizes {
    inner: f64,
    channels: f64,
    heads: f64,
    n: f64,
    groups: f64,
    taps: f64,
}

fn sizes(m: &Mixer) -> Sizes {
    Sizes {
        inner: m.inner().into(),
        channels: m.channels().into(),
        heads: m.heads.into(),
        n: m.d_state.into(),
        groups: m.groups.into(),
        taps: m.taps.into(),
    }
}

/// Keys that `m` queries of a segment see on average, and rows of the ring that are read for them.
fn attention(a: &Attention, queries: f64, segment: bool, c: &Conditions) -> Work {
    let (n, first, window) = (c.tokens as f64, c.first as f64, f64::from(a.window));
    let keys = (0..c.tokens).map(|t| (first + t as f64 + 1.0).min(window)).sum::<f64>() / n;
    let q_cols = f64::from(a.q_cols());
    let ring_rows = first.min(window) + if segment { 0.0 } else { n };
    // A token that does not attend reads nothing; a segment reads its ring once if any of its tokens does.
    let read = if segment { f64::from(u8::from(queries > 0.0)) } else { queries };
    Work {
        flops: queries * keys * (4.0 * q_cols + 5.0 * f64::from(a.heads)),
        weights: 0.0,
        state: read * 4.0 * ring_rows.min(window) * f64::from(a.kv_cols()),
        activations: 4.0 * (2.0 * queries * q_cols + if segment { n * f64::from(a.kv_cols()) } else { 0.0 }),
    }
}

/// The work of one call.
#[must_use]
pub fn work(call: &Call, c: &Conditions) -> Work {
    let n = c.tokens as f64;
    match call {
        Call::Matvec(_) | Call::Matmul(_) | Call::TokenGateKv(_) | Call::Embed(_) => matrix_work(call, c),
        Call::CausalConv1d(_) | Call::ConvAppend(_) | Call::MixerUpdate(_) => conv_work(call, n),
        Call::ChunkCumsum(_) | Call::BmmChunk(_) | Call::ChunkState(_) | Call::StatePassing(_) | Call::ChunkScan(_) => {
            chunk_work(call, n)
        }
        Call::Concat(k) => Work { activations: 8.0 * n * f64::from(k.out.cols), ..Work::default() },
        Call::Geglu(k) => {
            let cols = f64::from(k.out.cols);
            Work { flops: 20.0 * n * cols, activations: 12.0 * n * cols, ..Work::default() }
        }
        Call::RmsNorm(k) => {
            let cols = f64::from(k.x.cols);
            Work { flops: norm(cols, n), weights: 4.0 * cols, state: 0.0, activations: 8.0 * n * cols }
        }
        Call::RmsNormGated(k) => {
            let cols = f64::from(k.y.cols);
            Work {
                flops: norm(cols, n) + 5.0 * n * cols,
                weights: 4.0 * cols,
                state: 0.0,
                activations: 12.0 * n * cols,
            }
        }
        Call::TokenGate(k) => {
            let cols = f64::from(k.x.cols);
            Work { flops: 4.0 * n * cols, weights: 8.0 * (cols + 1.0), state: 0.0, activations: 4.0 * n * (cols + 2.0) }
        }
        Call::Compact(_) => Work { activations: 12.0 * n, ..Work::default() },
        Call::Rotary(k) => {
            let cols = f64::from(k.heads * k.head_dim);
            Work { flops: 3.0 * n * cols, weights: 0.0, state: 0.0, activations: 8.0 * n * cols }
        }
        Call::WindowAttention(k) => attention(&k.attention, c.selected * n, true, c),
        Call::TokenAttention(k) => attention(&k.attention, c.selected * n, k.kv.is_some(), c),
        Call::MergeAttention(k) => {
            let cells = f64::from(k.count) * f64::from(k.attention.q_cols());
            Work { flops: 2.0 * c.selected * cells, activations: 4.0 * c.selected * cells, ..Work::default() }
        }
        Call::KvAppend(k) => {
            let bytes = 4.0 * n.min(k.window.into()) * f64::from(k.kv.cols);
            Work { state: bytes, activations: bytes, ..Work::default() }
        }
        Call::Route(k) => {
            let scores = n * f64::from(k.logits.cols);
            Work { flops: scores * k.routing.top as f64, activations: 4.0 * scores, ..Work::default() }
        }
        Call::Experts(k) => {
            // Every token reads its experts anew.
            let pairs = n * f64::from(k.top);
            let (cells, ends) = (pairs * f64::from(k.rows) * f64::from(k.weight.cols), k.rows + k.weight.cols);
            let activations = 4.0 * pairs * f64::from(ends);
            Work { flops: 2.0 * cells, weights: cells * c.element, state: 0.0, activations }
        }
        Call::LogitMaxima(k) => {
            let cols = f64::from(k.logits.cols);
            Work { flops: cols, activations: 4.0 * cols, ..Work::default() }
        }
        Call::Sample(k) if LogitMaxima::pays(k.logits.cols) => {
            let parts = f64::from(LogitMaxima::parts(k.logits.cols));
            Work { flops: parts, activations: 4.0 * parts, ..Work::default() }
        }
        Call::Sample(k) => {
            let cols = f64::from(k.logits.cols);
            Work { flops: cols, activations: 4.0 * cols, ..Work::default() }
        }
    }
}

fn matrix_work(call: &Call, c: &Conditions) -> Work {
    let n = c.tokens as f64;
    match call {
        Call::Embed(k) => {
            let cells = n * f64::from(k.table.cols);
            Work { flops: cells, weights: cells * c.element, state: 0.0, activations: 4.0 * cells }
        }
        Call::Matvec(k) => {
            let mut w = epilogue(k.epilogue, k.weight, 1.0, product(k.weight, 1.0, c));
            if k.norm.is_some() {
                w.flops += norm(k.weight.cols.into(), 1.0);
                w.weights += 4.0 * f64::from(k.weight.cols);
            }
            if k.bias.is_some() {
                w.flops += f64::from(k.weight.rows);
                w.weights += 4.0 * f64::from(k.weight.rows);
            }
            let share = if k.only_selected { c.selected } else { 1.0 };
            Work {
                flops: share * w.flops,
                weights: share * w.weights,
                state: share * w.state,
                activations: share * w.activations,
            }
        }
        Call::Matmul(k) => {
            let rows = match k.over {
                Over::Tokens { first, most } => (n - f64::from(first)).clamp(0.0, most.into()),
                Over::Gather | Over::Scatter => c.selected * n,
            };
            let mut w = epilogue(k.epilogue, k.weight, rows, product(k.weight, rows, c));
            if k.bias.is_some() {
                w.flops += rows * f64::from(k.weight.rows);
                w.weights += 4.0 * f64::from(k.weight.rows);
            }
            if rows > 0.0 { w } else { Work::default() }
        }
        Call::TokenGateKv(k) => {
            let cols = f64::from(k.weight.cols);
            let mut w = product(k.weight, 1.0, c);
            w.flops += norm(cols, 1.0) + 4.0 * cols;
            w.weights += 4.0 * (3.0 * cols + 2.0);
            // Keys and values go to the ring, not to an activation.
            let row = 4.0 * f64::from(k.weight.rows);
            (w.state, w.activations) = (row, w.activations - row);
            w
        }
        _ => unreachable!("a kernel with a matrix, not {}", call.decl().name),
    }
}

fn conv_work(call: &Call, n: f64) -> Work {
    match call {
        Call::CausalConv1d(k) => {
            let (channels, taps) = (f64::from(k.conv.channels), f64::from(k.conv.taps));
            Work {
                flops: n * channels * (2.0 * taps + if k.conv.silu { 4.0 } else { 0.0 }),
                weights: 4.0 * channels * (taps + 1.0),
                state: 4.0 * channels * (taps - 1.0),
                activations: 8.0 * n * channels,
            }
        }
        Call::ConvAppend(k) => {
            let bytes = 4.0 * n.min(k.conv.taps.into()) * f64::from(k.conv.channels);
            Work { state: bytes, activations: bytes, ..Work::default() }
        }
        Call::MixerUpdate(k) => {
            let s = sizes(&k.mixer);
            let cells = s.inner * s.n;
            let gate = if k.gate { 5.0 * s.inner } else { 0.0 };
            Work {
                // decay·S, Δx·B, their sum, ·C and its sum; D·x; the gate.
                flops: s.channels * (2.0 * s.taps + 4.0) + 5.0 * cells + 2.0 * s.inner + gate + 8.0 * s.heads,
                weights: 4.0 * (s.channels * (s.taps + 1.0) + 3.0 * s.heads),
                // The recurrent state both ways; taps − 1 rows of the ring read, one written.
                state: 8.0 * cells + 4.0 * s.taps * s.channels,
                activations: 4.0 * (2.0 * s.inner + s.channels + s.heads),
            }
        }
        _ => unreachable!("a kernel with a convolution, not {}", call.decl().name),
    }
}

fn chunk_work(call: &Call, n: f64) -> Work {
    let chunks = |chunk: u32| (n / f64::from(chunk)).ceil();
    match call {
        Call::ChunkCumsum(k) => {
            let s = sizes(&k.mixer);
            Work { flops: 10.0 * n * s.heads, weights: 12.0 * s.heads, state: 0.0, activations: 20.0 * n * s.heads }
        }
        Call::BmmChunk(k) => {
            let (s, q) = (sizes(&k.mixer), f64::from(k.chunk));
            // Half of the square: a token looks back only.
            Work {
                flops: n * q * s.n * s.groups,
                activations: 4.0 * (2.0 * n * s.groups * s.n + n * q * s.groups),
                ..Work::default()
            }
        }
        Call::ChunkState(k) => {
            let s = sizes(&k.mixer);
            let states = chunks(k.chunk) * s.inner * s.n;
            Work {
                flops: 2.0 * n * s.inner * s.n,
                activations: 4.0 * (n * (s.inner + s.groups * s.n + 4.0 * s.heads) + states),
                ..Work::default()
            }
        }
        Call::StatePassing(k) => {
            let s = sizes(&k.mixer);
            let cells = s.inner * s.n;
            let steps = chunks(k.chunk);
            Work { flops: 2.0 * steps * cells, weights: 0.0, state: 8.0 * cells, activations: 8.0 * steps * cells }
        }
        Call::ChunkScan(k) => {
            let (s, q) = (sizes(&k.mixer), f64::from(k.chunk));
            let states = chunks(k.chunk) * s.inner * s.n;
            Work {
                flops: n * (q * s.inner + 2.0 * s.inner * s.n + 2.0 * s.inner),
                weights: 4.0 * s.heads,
                state: 0.0,
                activations: 4.0 * (n * (s.channels + s.inner + q * s.groups + 4.0 * s.heads) + states),
            }
        }
        _ => unreachable!("a kernel of the chunked form, not {}", call.decl().name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taipan::Config;
    use taipan::description::{Description, Shape};
    use taipan::layers::Programs;

    const TINY: &str = r#"{
        "model_type": "taipan", "vocab_size": 10, "hidden_size": 4, "layer_types": ["mamba2", "selective_attention"],
        "mamba2": { "d_state": 2, "d_conv": 4, "expand": 2, "head_dim": 4, "n_groups": 1 },
        "selective_attention": { "num_heads": 2, "head_dim": 2, "window": 8, "intermediate_size": 6 }
    }"#;

    #[test]
    fn a_decoded_token_of_a_tiny_model_is_what_a_pencil_gives() {
        let config = Config::from_json(TINY.as_bytes()).expect("valid");
        let d = Description::new(&config, Shape { segment: 4, chunk: 4, logit_rows: 4 });
        let programs = Programs::new(&d);
        let c = Conditions { tokens: 1, first: 3, selected: 0.5, element: 2.0 };
        let w = total(&programs.decode, &c);
        // in_proj 22 × 4, out_proj 4 × 8, k and v 8 × 4, q and o 4 × 4 at half, gate and up 12 × 4, down 4 × 6, head 10 × 4,
        // one row of the embedding.
        let matrices = 88.0 + 32.0 + 32.0 + 0.5 * (16.0 + 16.0) + 48.0 + 24.0 + 40.0 + 4.0;
        // Norms 4 + 8, mixer 12 × 5 + 6, gate 14, q's norm at half, MLP norm, final norm.
        let vectors = 4.0 + 8.0 + 66.0 + 14.0 + 0.5 * 4.0 + 4.0 + 4.0;
        assert_eq!(w.weights, 2.0 * matrices + 4.0 * vectors);
        // Recurrent state 8 × 2 both ways, convolution ring 4 × 12; one row of 8 to the window, 4 rows read at half.
        assert_eq!(w.state, 4.0 * (32.0 + 48.0 + 8.0 + 0.5 * 4.0 * 8.0));
        let products = 2.0 * (88.0 + 32.0 + 32.0 + 16.0 + 48.0 + 24.0 + 40.0);
        let norms = 4.0 * (4.0 + 8.0 + 4.0 + 0.5 * 4.0 + 4.0 + 4.0);
        let mixer = 12.0 * 12.0 + 5.0 * 16.0 + 2.0 * 8.0 + 5.0 * 8.0 + 8.0 * 2.0;
        let attention = 0.5 * 4.0 * (4.0 * 4.0 + 5.0 * 2.0);
        // Embedding 4, out_proj and down add 4 each, the mix 3 × 4 at half, SwiGLU 2.5 × 12, the gate's 4 × 4.
        let rest = 4.0 + 4.0 + 4.0 + 6.0 + 30.0 + 16.0;
        assert_eq!(w.flops, products + norms + mixer + attention + rest);
    }

    #[test]
    fn a_segment_reads_its_weights_once() {
        let config = Config::from_json(TINY.as_bytes()).expect("valid");
        let d = Description::new(&config, Shape { segment: 4, chunk: 4, logit_rows: 4 });
        let programs = Programs::new(&d);
        let weights = |tokens| {
            let c = Conditions { tokens, first: 0, selected: 1.0, element: 2.0 };
            total(&programs.prefill, &c).weights
        };
        // More tokens take more rows of the embedding and nothing else.
        assert_eq!(weights(4) - weights(1), 3.0 * 4.0 * 2.0);
    }
}
