//! `h ← h + W_o softmax(scale · q kᵀ) v` over all positions so far, grouped queries, rotary or no positions.

use taipan_kernels::{
    Attention, BufferId, Call, CausalConv1d, ConvAppend, Epilogue, KvAppend, Matrix, RmsNorm, Rotary, Rows,
    TokenAttention, Vector, WindowAttention,
};

use super::{Context, matmul, matvec};
use crate::description::{AttentionLayer, ConvLayer};

impl AttentionLayer {
    /// A segment of tokens.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        calls.push(RmsNorm { norm: self.norm, eps: cx.eps, x: s.hidden, out: s.normed }.into());
        self.prefill_normed(cx, calls);
    }

    /// A segment of tokens whose norm is there already.
    pub(super) fn prefill_normed(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        self.project(cx, calls, |weight, bias, y| matmul(cx, weight, bias, s.normed, y, Epilogue::Store));
        self.attend(cx, None, calls);
        calls.push(matmul(cx, self.o_proj, self.o_bias, s.attended, s.hidden, Epilogue::Add(self.out_scale)));
    }

    /// One token, first half: it reads the residual stream.
    pub(super) fn read(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let (s, norm) = (cx.scratch, Some(cx.norm(self.norm)));
        self.project(cx, calls, |weight, bias, y| matvec(cx, weight, bias, norm, s.hidden, y, Epilogue::Store));
    }

    /// Keys and values, then queries, through their convolutions where they have some.
    fn project(&self, cx: &Context<'_>, calls: &mut Vec<Call>, product: impl Fn(Matrix, Option<Vector>, Rows) -> Call) {
        let (s, control) = (cx.scratch, cx.common.control);
        let parts = [(self.kv_proj, self.kv_bias, s.kv), (self.q_proj, self.q_bias, s.q)];
        for (i, (weight, bias, out)) in parts.into_iter().enumerate() {
            let Some(ConvLayer { conv, state: conv_state }) = self.convs.map(|convs| convs[i]) else {
                calls.push(product(weight, bias, out));
                continue;
            };
            let raw = Rows { cols: out.cols, ..s.projected };
            calls.push(product(weight, bias, raw));
            calls.push(CausalConv1d { conv, raw, conv_state, control, out }.into());
            calls.push(ConvAppend { conv, raw, control, conv_state }.into());
        }
    }

    /// One token, second half: it adds to the residual stream.
    pub(super) fn add(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        self.attend(cx, Some(s.parts), calls);
        calls.push(matvec(cx, self.o_proj, self.o_bias, None, s.attended, s.hidden, Epilogue::Add(self.out_scale)));
    }

    /// What is attended to; `parts` is for a token on its own.
    fn attend(&self, cx: &Context<'_>, parts: Option<Rows>, calls: &mut Vec<Call>) {
        attend(cx, calls, (self.attention, self.table, self.cache), parts);
    }
}

/// From queries, keys and values to what is attended to; the cache then holds the segment as well. `parts` is for a token on
/// its own.
pub(super) fn attend(
    cx: &Context<'_>,
    calls: &mut Vec<Call>,
    (attention, table, cache): (Attention, Option<Vector>, BufferId),
    parts: Option<Rows>,
) {
    let (s, control) = (cx.scratch, cx.common.control);
    if let Some(table) = table {
        let (heads, head_dim) = (attention.kv_heads, attention.head_dim);
        calls.push(Rotary { table, heads, head_dim, control, kv: s.kv }.into());
    }
    let (q, kv, ring, out) = (s.q, s.kv, cache, s.attended);
    calls.push(match parts {
        None => WindowAttention { attention, table, q, kv, ring, control, selected: None, out }.into(),
        Some(parts) => {
            TokenAttention { attention, table, q, kv: Some(kv), ring, control, selection: None, out, parts }.into()
        }
    });
    calls.push(KvAppend { kv: s.kv, control, window: attention.window, ring: cache }.into());
}
