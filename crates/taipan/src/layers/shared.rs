//! `t = W_t · mlp(RMSNorm(attention(RMSNorm(h | e))))`, `h ← h + mixer(RMSNorm(h + t))`, e = the embedded token: attention and
//! MLP are those of a block that several layers share, each with low-rank adapters W₂W₁ of its own (arXiv 2411.15242 §2).

use taipan_kernels::{Call, Concat, Epilogue, Geglu, Matrix, RmsNorm, Rows, Vector};

use super::attention::attend;
use super::{Context, matmul, matvec};
use crate::description::{Adapted, SharedLayer};

/// A product of all tokens of a segment, or of one.
type Product = fn(&Context<'_>, Matrix, Option<Vector>, Rows, Rows, Epilogue) -> Call;

impl SharedLayer {
    /// A segment of tokens.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        self.calls(cx, calls, matmul, None);
        self.mixer.prefill_of(cx, calls, cx.scratch.shared.stream);
    }

    /// One token.
    pub(super) fn decode(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let product: Product = |cx, weight, bias, x, y, epilogue| matvec(cx, weight, bias, None, x, y, epilogue);
        self.calls(cx, calls, product, Some(cx.scratch.parts));
        self.mixer.read_of(cx, calls, cx.scratch.shared.stream);
        self.mixer.add(cx, calls);
    }

    /// From the stream to the stream plus t, beside it.
    fn calls(&self, cx: &Context<'_>, calls: &mut Vec<Call>, product: Product, parts: Option<Rows>) {
        let (s, own, block) = (cx.scratch, cx.scratch.shared, &self.block);
        calls.push(Concat { a: s.hidden, b: Some(own.embedded), out: own.joined }.into());
        calls.push(RmsNorm { norm: block.norm, eps: cx.eps, x: own.joined, out: own.normed }.into());
        for (projection, out) in self.qkv.iter().zip([s.q, own.k, own.v]) {
            projection.calls(cx, calls, product, None, own.normed, out);
        }
        calls.push(Concat { a: own.k, b: Some(own.v), out: s.kv }.into());
        attend(cx, calls, (block.attention, block.table, self.cache), parts);
        calls.push(product(cx, block.o_proj, None, s.attended, own.branch, Epilogue::Store));
        calls.push(RmsNorm { norm: block.mlp_norm, eps: cx.eps, x: own.branch, out: s.normed }.into());
        self.up.calls(cx, calls, product, block.up_bias, s.normed, own.up);
        calls.push(Geglu { x: own.up, out: s.mlp }.into());
        calls.push(product(cx, block.down, block.down_bias, s.mlp, own.branch, Epilogue::Store));
        calls.push(Concat { a: s.hidden, b: None, out: own.stream }.into());
        calls.push(product(cx, self.out, None, own.branch, own.stream, Epilogue::Add(1.0)));
    }
}

impl Adapted {
    /// `y = W·x + bias + W₂·(W₁·x)`.
    fn calls(&self, cx: &Context<'_>, calls: &mut Vec<Call>, product: Product, bias: Option<Vector>, x: Rows, y: Rows) {
        calls.push(product(cx, self.weight, bias, x, y, Epilogue::Store));
        if let Some([into, back]) = self.adapter {
            let low = cx.scratch.shared.low;
            calls.push(product(cx, into, None, x, low, Epilogue::Store));
            calls.push(product(cx, back, None, low, y, Epilogue::Add(1.0)));
        }
    }
}
