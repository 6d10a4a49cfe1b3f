//! `h ← h + W_o softmax(scale · q kᵀ) v` over all positions so far, grouped queries, rotary or no positions.

use taipan_kernels::{Call, Epilogue, KvAppend, RmsNorm, Rotary, Rows, WindowAttention};

use super::{Context, matmul, matvec};
use crate::description::AttentionLayer;

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
        calls.push(matmul(cx, self.kv_proj, self.kv_bias, s.normed, s.kv, Epilogue::Store));
        calls.push(matmul(cx, self.q_proj, self.q_bias, s.normed, s.q, Epilogue::Store));
        self.attend(cx, None, calls);
        calls.push(matmul(cx, self.o_proj, self.o_bias, s.attended, s.hidden, Epilogue::Add(self.out_scale)));
    }

    /// One token, first half: it reads the residual stream.
    pub(super) fn read(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let (s, norm) = (cx.scratch, Some(cx.norm(self.norm)));
        calls.push(matvec(cx, self.kv_proj, self.kv_bias, norm, s.hidden, s.kv, Epilogue::Store));
        calls.push(matvec(cx, self.q_proj, self.q_bias, norm, s.hidden, s.q, Epilogue::Store));
    }

    /// One token, second half: it adds to the residual stream.
    pub(super) fn add(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        self.attend(cx, Some(s.parts), calls);
        calls.push(matvec(cx, self.o_proj, self.o_bias, None, s.attended, s.hidden, Epilogue::Add(self.out_scale)));
    }

    /// From queries, keys and values to what is attended to; the cache then holds the segment as well. `parts` is for a
    /// token on its own.
    fn attend(&self, cx: &Context<'_>, parts: Option<Rows>, calls: &mut Vec<Call>) {
        let (s, control, attention) = (cx.scratch, cx.common.control, self.attention);
        if let Some(table) = self.table {
            let (heads, head_dim) = (attention.kv_heads, attention.head_dim);
            calls.push(Rotary { table, heads, head_dim, control, kv: s.kv }.into());
        }
        let attend = WindowAttention {
            attention,
            table: self.table,
            q: s.q,
            kv: Some(s.kv),
            ring: self.cache,
            control,
            selected: None,
            out: s.attended,
            parts,
        };
        calls.push(attend.into());
        calls.push(KvAppend { kv: s.kv, control, window: attention.window, ring: self.cache }.into());
    }
}
