//! `h ← h + out_proj(gated_norm(mixer(in_proj(RMSNorm(h)))))` (arXiv 2405.21060; spec §1.1).

use taipan_kernels::{
    BmmChunk, Call, CausalConv1d, ChunkCumsum, ChunkScan, ChunkState, ConvAppend, Epilogue, MixerUpdate, Norm, RmsNorm,
    RmsNormGated, Rows, StatePassing,
};
use taipan_reference::GateMode;

use super::{Context, matmul, matvec};
use crate::description::Mamba2Layer;

impl Mamba2Layer {
    /// A segment of tokens, in the chunked form.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        self.prefill_of(cx, calls, cx.scratch.hidden);
    }

    /// A segment of tokens that reads something else than the stream.
    pub(super) fn prefill_of(&self, cx: &Context<'_>, calls: &mut Vec<Call>, x: Rows) {
        calls.push(RmsNorm { norm: self.norm, eps: cx.eps, x, out: cx.scratch.normed }.into());
        self.prefill_normed(cx, calls);
    }

    /// A segment of tokens whose norm is there already.
    pub(super) fn prefill_normed(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let (s, control, chunk, mixer) = (cx.scratch, cx.common.control, cx.chunk(), self.mixer);
        let (raw, conv) = (s.projected, mixer.convolution());
        calls.push(matmul(cx, self.in_proj, self.in_bias, s.normed, raw, Epilogue::Store));
        calls.push(CausalConv1d { conv, raw, conv_state: self.conv_state, control, out: s.xbc }.into());
        calls.push(ConvAppend { conv, raw, control, conv_state: self.conv_state }.into());
        calls.push(ChunkCumsum { mixer, chunk, raw, control, da: s.da }.into());
        calls.push(BmmChunk { mixer, chunk, xbc: s.xbc, control, cb: s.cb }.into());
        calls.push(ChunkState { mixer, chunk, xbc: s.xbc, da: s.da, control, states: s.states }.into());
        calls.push(StatePassing { mixer, chunk, da: s.da, control, states: s.states, ssm: self.ssm }.into());
        calls
            .push(ChunkScan { mixer, chunk, xbc: s.xbc, da: s.da, cb: s.cb, states: s.states, control, y: s.y }.into());
        calls.push(self.gated_norm(s.y, raw, s.gated));
        calls.push(matmul(cx, self.out_proj, self.out_bias, s.gated, s.hidden, Epilogue::Add(self.out_scale)));
    }

    /// One token, first part: it reads the residual stream.
    pub(super) fn read(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        self.read_of(cx, calls, cx.scratch.hidden);
    }

    /// One token, first part, of something else than the stream.
    pub(super) fn read_of(&self, cx: &Context<'_>, calls: &mut Vec<Call>, x: Rows) {
        let norm = Some(cx.norm(self.norm));
        calls.push(matvec(cx, self.in_proj, self.in_bias, norm, x, cx.scratch.projected, Epilogue::Store));
    }

    /// One token, the rest, in the recurrent form: it adds to the residual stream. Two dispatches, and a third where the
    /// gate comes after the norm.
    pub(super) fn add(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let (s, control) = (cx.scratch, cx.common.control);
        // The norm goes in front of out_proj, so what comes before it can only be the gate, or nothing.
        let gate = self.gate_mode != GateMode::NormBeforeGate;
        calls.push(
            MixerUpdate {
                mixer: self.mixer,
                gate,
                projected: s.projected,
                control,
                conv_state: self.conv_state,
                ssm: self.ssm,
                y: s.y,
            }
            .into(),
        );
        if !gate {
            calls.push(self.gated_norm(s.y, s.projected, s.gated));
        }
        let x = if gate { s.y } else { s.gated };
        calls.push(matvec(
            cx,
            self.out_proj,
            self.out_bias,
            self.fused_norm(),
            x,
            s.hidden,
            Epilogue::Add(self.out_scale),
        ));
    }

    /// The gated norm as a prologue of out_proj.
    fn fused_norm(&self) -> Option<Norm> {
        let weight = self.gated_norm.filter(|_| self.gate_mode == GateMode::NormAfterGate)?;
        Some(Norm { weight, eps: self.gated_eps, groups: self.mixer.groups })
    }

    fn gated_norm(&self, y: Rows, z: Rows, out: Rows) -> Call {
        RmsNormGated {
            norm: self.gated_norm,
            eps: self.gated_eps,
            groups: self.mixer.groups,
            mode: self.gate_mode,
            y,
            z,
            z_at: 0,
            z_scale: self.mixer.z_scale,
            out,
        }
        .into()
    }
}
