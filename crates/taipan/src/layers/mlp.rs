//! `h ← h + W_down (silu(W_gate x) ⊙ W_up x)` (arXiv 2002.05202), or without a gate `h ← h + W_down max(W_up x, 0)²`;
//! x = RMSNorm(h).

use taipan_kernels::{Call, Epilogue, Norm, RmsNorm, Rows};

use super::{Context, matmul, matvec};
use crate::description::MlpLayer;

impl MlpLayer {
    /// A segment of tokens.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        calls.push(RmsNorm { norm: self.norm, eps: cx.eps, x: s.hidden, out: s.normed }.into());
        self.prefill_normed(cx, calls);
    }

    /// A segment of tokens whose norm is there already.
    pub(super) fn prefill_normed(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        let mlp = Rows { cols: self.down.cols, ..s.mlp };
        calls.push(matmul(cx, self.up, self.up_bias, s.normed, mlp, self.activation));
        calls.push(matmul(cx, self.down, self.down_bias, mlp, s.hidden, Epilogue::Add(self.out_scale)));
    }

    /// One token: two dispatches.
    pub(super) fn decode(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        self.decode_from(cx, calls, Some(cx.norm(self.norm)), cx.scratch.hidden);
    }

    /// One token whose norm is there already.
    pub(super) fn decode_normed(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        self.decode_from(cx, calls, None, cx.scratch.normed);
    }

    fn decode_from(&self, cx: &Context<'_>, calls: &mut Vec<Call>, norm: Option<Norm>, x: Rows) {
        let s = cx.scratch;
        let mlp = Rows { cols: self.down.cols, ..s.mlp };
        calls.push(matvec(cx, self.up, self.up_bias, norm, x, mlp, self.activation));
        calls.push(matvec(cx, self.down, self.down_bias, None, mlp, s.hidden, Epilogue::Add(self.out_scale)));
    }
}
