//! `h ← h + Σ_e weight_e · expert_e(x) + mlp(x)`, x = RMSNorm(h): every token goes to the few experts that its router picks,
//! and through one MLP besides. With a width of their own the experts read W₁x, and W₂ takes their sum back.

use taipan_kernels::{Call, Epilogue, Experts, Matrix, RmsNorm, Route, Rows};
use taipan_reference::Projection;

use super::{Context, matmul, matvec};
use crate::description::ExpertsLayer;

/// A product of all tokens of a segment, or of one.
type Product = fn(&Context<'_>, Matrix, Rows, Rows, Epilogue) -> Call;

impl ExpertsLayer {
    /// A segment of tokens.
    pub(super) fn prefill(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        self.calls(cx, calls, |cx, weight, x, y, epilogue| matmul(cx, weight, None, x, y, epilogue));
        if let Some(shared) = &self.shared {
            shared.prefill_normed(cx, calls);
        }
    }

    /// One token.
    pub(super) fn decode(&self, cx: &Context<'_>, calls: &mut Vec<Call>) {
        self.calls(cx, calls, |cx, weight, x, y, epilogue| matvec(cx, weight, None, None, x, y, epilogue));
        if let Some(shared) = &self.shared {
            shared.decode_normed(cx, calls);
        }
    }

    fn calls(&self, cx: &Context<'_>, calls: &mut Vec<Call>, product: Product) {
        let (s, routes) = (cx.scratch, cx.scratch.routes);
        // Several products read the norm, and the stream is added to before the last has.
        calls.push(RmsNorm { norm: self.norm, eps: cx.eps, x: s.hidden, out: s.normed }.into());
        calls.push(product(cx, self.router, s.normed, s.scores, Epilogue::Store));
        let (routing, correction, control) = (self.routing, self.correction, cx.common.control);
        calls.push(Route { routing, correction, logits: s.scores, control, routes }.into());
        let x = match self.latent {
            None => s.normed,
            Some([into, _]) => {
                calls.push(product(cx, into, s.normed, s.latent, Epilogue::Store));
                s.latent
            }
        };
        let count = routing.experts as u32;
        let up = Experts {
            weight: self.up,
            rows: self.up.rows / count,
            top: routing.top as u32,
            projection: self.activation,
            x,
            routes,
            y: s.expanded,
        };
        calls.push(up.into());
        let down = Experts {
            weight: self.down,
            rows: self.down.rows / count,
            projection: if self.latent.is_some() { Projection::Store } else { Projection::Add(1.0) },
            x: s.expanded,
            y: if self.latent.is_some() { s.combined } else { s.hidden },
            ..up
        };
        calls.push(down.into());
        if let Some([_, back]) = self.latent {
            calls.push(product(cx, back, s.combined, s.hidden, Epilogue::Add(1.0)));
        }
    }
}
