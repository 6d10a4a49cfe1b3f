//! The gate picks the tokens that attend; a selected one becomes `(1 − α)·h + α·o` (spec §1.2).

use taipan_kernels::{
    Call, Compact, Epilogue, KvAppend, Matmul, Matvec, Norm, Over, RmsNorm, Rotary, Selected, TokenAttention,
    TokenGate, TokenGateKv, WindowAttention,
};

use super::{Context, matmul};
use crate::description::SalLayer;

/// Rows of the indirect arguments, as `compact` writes them.
const Q_PROJ: u32 = 0;
const ATTENTION: u32 = 1;
const O_PROJ: u32 = 2;

impl SalLayer {
    fn selected(&self, cx: &Context<'_>, row: u32) -> Selected {
        Selected { selection: self.selection, capacity: cx.segment(), args: cx.scratch.args, row }
    }

    /// A segment of tokens: projections and attention run over the selected rows only.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let (s, control) = (cx.scratch, cx.common.control);
        calls.push(RmsNorm { norm: self.gate, eps: cx.eps, x: s.hidden, out: s.normed }.into());
        calls
            .push(TokenGate { gate: self.gate, capacity: cx.segment(), x: s.normed, selection: self.selection }.into());
        calls.push(
            Compact {
                capacity: cx.segment(),
                q_tiles: Matmul::row_tiles(self.q_proj.rows),
                o_tiles: Matmul::row_tiles(self.o_proj.rows),
                heads: self.attention.heads,
                queries: WindowAttention::queries(self.attention.head_dim),
                control,
                sal: self.sal,
                selection: self.selection,
                args: s.args,
            }
            .into(),
        );
        calls.push(matmul(cx, self.kv_proj, None, s.normed, s.kv, Epilogue::Store));
        if let Some(table) = self.table {
            let (heads, head_dim) = (self.attention.kv_heads, self.attention.head_dim);
            calls.push(Rotary { table, heads, head_dim, control, kv: s.kv }.into());
        }
        let q = Matmul {
            weight: self.q_proj,
            bias: None,
            x: s.normed,
            y: s.q,
            epilogue: Epilogue::Store,
            over: Over::Gather,
            control,
            selected: Some(self.selected(cx, Q_PROJ)),
        };
        calls.push(q.into());
        let attend = WindowAttention {
            attention: self.attention,
            table: self.table,
            q: s.q,
            kv: s.kv,
            ring: self.ring,
            control,
            selected: Some(self.selected(cx, ATTENTION)),
            out: s.attended,
        };
        calls.push(attend.into());
        calls.push(KvAppend { kv: s.kv, control, window: self.attention.window, ring: self.ring }.into());
        let o = Matmul {
            weight: self.o_proj,
            x: s.attended,
            y: s.hidden,
            epilogue: Epilogue::Mix,
            over: Over::Scatter,
            selected: Some(self.selected(cx, O_PROJ)),
            ..q
        };
        calls.push(o.into());
    }

    /// One token, four dispatches; unselected, three of them return at once.
    pub(super) fn decode(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        let (s, control) = (cx.scratch, cx.common.control);
        calls.push(
            TokenGateKv {
                attention: self.attention,
                weight: self.kv_proj,
                gate: self.gate,
                eps: cx.eps,
                table: self.table,
                hidden: s.hidden,
                control,
                ring: self.ring,
                sal: self.sal,
                selection: self.selection,
                capacity: cx.segment(),
            }
            .into(),
        );
        let q = Matvec {
            weight: self.q_proj,
            bias: None,
            norm: Some(Norm { weight: self.gate, eps: cx.eps, groups: 1 }),
            x: s.hidden,
            y: s.q,
            epilogue: Epilogue::Store,
            control,
            selection: Some(self.selection),
            only_selected: true,
        };
        calls.push(q.into());
        let attend = TokenAttention {
            attention: self.attention,
            table: self.table,
            q: s.q,
            kv: None, // in the ring
            ring: self.ring,
            control,
            selection: Some(self.selection),
            out: s.attended,
            parts: s.parts,
        };
        calls.push(attend.into());
        let o = Matvec { weight: self.o_proj, norm: None, x: s.attended, y: s.hidden, epilogue: Epilogue::Mix, ..q };
        calls.push(o.into());
    }
}
