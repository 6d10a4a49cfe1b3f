//! `h ← h + W_down (silu(W_gate x) ⊙ W_up x)`, x = RMSNorm(h) (arXiv 2002.05202).

use taipan_kernels::{Call, Epilogue, RmsNorm};

use super::{Context, matmul, matvec};
use crate::description::MlpLayer;

impl MlpLayer {
    /// A segment of tokens.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        calls.push(RmsNorm { norm: self.norm, eps: cx.eps, x: s.hidden, out: s.normed }.into());
        calls.push(matmul(cx, self.gate_up, None, s.normed, s.mlp, Epilogue::Swiglu));
        calls.push(matmul(cx, self.down, None, s.mlp, s.hidden, Epilogue::Add));
    }

    /// One token: two dispatches.
    pub(super) fn decode(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let s = cx.scratch;
        calls.push(matvec(cx, self.gate_up, None, Some(cx.norm(self.norm)), s.hidden, s.mlp, Epilogue::Swiglu));
        calls.push(matvec(cx, self.down, None, None, s.mlp, s.hidden, Epilogue::Add));
    }
}
