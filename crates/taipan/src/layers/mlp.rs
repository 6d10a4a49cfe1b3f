//! `h ← h + W_down (silu(W_gate x) ⊙ W_up x)` (arXiv 2002.05202), or without a gate `h ← h + W_down max(W_up x, 0)²`;
//! x = RMSNorm(h).

use taipan_kernels::{Call, Epilogue, RmsNorm};

use super::{Context, matmul, matvec};
use crate::description::MlpLayer;

impl MlpLayer {
    /// A segment of tokens.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        calls.push(RmsNorm { norm: self.norm, eps: cx.eps, x: s.hidden, out: s.normed }.into());
        calls.push(matmul(cx, self.up, self.up_bias, s.normed, s.mlp, self.activation));
        calls.push(matmul(cx, self.down, self.down_bias, s.mlp, s.hidden, Epilogue::Add(self.out_scale)));
    }

    /// One token: two dispatches.
    pub(super) fn decode(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        calls.push(matvec(cx, self.up, self.up_bias, Some(cx.norm(self.norm)), s.hidden, s.mlp, self.activation));
        calls.push(matvec(cx, self.down, self.down_bias, None, s.mlp, s.hidden, Epilogue::Add(self.out_scale)));
    }
}
