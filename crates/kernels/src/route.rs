//! Which experts a token goes to.

use taipan_reference::Routing;
use taipan_shaders::{ROUTE, Shared};

use crate::{BufferId, Decl, Grid, Kernel, Launch, Piece, Rows, Vector, read, weight, write};

/// The best experts of every token and their weights, as [`taipan_reference::route`] says.
///
/// Shapes: logits `[tokens, experts]`, correction `[experts]`, routes `[tokens, top]` pairs of words.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The rule.
    pub routing: Routing,
    /// Added to the sigmoids; only then.
    pub correction: Option<Vector>,
    /// Scores of the experts.
    pub logits: Rows,
    /// The session's counters.
    pub control: BufferId,
    /// Output: expert and weight.
    pub routes: BufferId,
}

static DECL: Decl = Decl {
    name: "route",
    body: ROUTE,
    shared: &[Shared::Rows, Shared::Activation, Shared::Control],
    matrix: false,
    bindings: &[weight("correction"), read("logits"), read("control"), write("routes")],
    workgroup: [64, 1, 1],
};

impl Kernel for Route {
    fn decl(&self) -> &'static Decl {
        &DECL
    }

    fn launch(&self, _: Piece) -> Launch {
        let r = &self.routing;
        Launch {
            overrides: vec![
                ("SIGMOID", u8::from(r.sigmoid).into()),
                ("NORMALISE", u8::from(r.normalise).into()),
                ("TOP", r.top as f64),
            ],
            params: vec![
                ("experts", (r.experts as u32).into()),
                ("groups", (r.groups as u32).into()),
                ("kept", (r.kept as u32).into()),
                ("scale", r.scale.into()),
            ],
            vectors: vec![self.correction],
            buffers: vec![Some(self.logits.buffer), Some(self.control), Some(self.routes)],
            grid: Grid::TokenTiles { first: 0, most: u32::MAX, y: 1 },
        }
    }
}
