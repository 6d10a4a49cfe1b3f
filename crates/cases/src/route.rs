//! Cases of `route`.

use taipan_kernels::Route;
use taipan_reference::Routing;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let plain = Routing { experts: 5, top: 2, sigmoid: false, groups: 1, kept: 1, normalise: true, scale: 1.0 };
    let grouped = Routing { experts: 24, top: 4, sigmoid: true, groups: 6, kept: 3, normalise: true, scale: 2.5 };
    let rules = [
        plain,
        Routing { experts: 1, top: 1, ..plain },
        Routing { experts: 64, top: 6, ..plain },
        Routing { experts: 7, top: 7, scale: 0.5, ..plain },
        Routing { normalise: false, ..plain },
        Routing { experts: 33, top: 3, sigmoid: true, ..plain },
        Routing { normalise: false, sigmoid: true, scale: 1.5, ..plain },
        grouped,
        Routing { kept: 1, top: 2, ..grouped },
        Routing { kept: 6, ..grouped },
    ];
    let mut out = Vec::new();
    for routing in rules {
        for tokens in [1, 70] {
            let mut b = Builder::new("route", format!("{tokens} tokens, {routing:?}"), seed, tokens, 0);
            let correction = routing.sigmoid.then(|| b.random_vector(routing.experts, -0.3, 0.3));
            let logits = b.rows("logits", tokens, routing.experts, -3.0, 3.0);
            let routes = b.words("routes", vec![77; tokens * 2 * routing.top]);
            b.check(routes);
            let control = b.control();
            out.push(b.call(Route { routing, correction, logits, control, routes }));
        }
    }
    out
}
