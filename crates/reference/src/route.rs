//! Which experts a token goes to, and with what weights.
//!
//! Two rules are in use. Softmax: the best logits, weights are the softmax over these alone (Granite 4.0). Sigmoid: the best
//! of `sigmoid(logit) + correction` among the experts of the best groups, weights are the plain sigmoids of the chosen
//! (Nemotron-H; arXiv 2412.19437, eq. 12 to 16). Of equal scores the first is taken.

use crate::sigmoid;

/// How experts are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts there are.
    pub experts: usize,
    /// Experts a token goes to.
    pub top: usize,
    /// Sigmoid instead of softmax.
    pub sigmoid: bool,
    /// Groups of consecutive experts.
    pub groups: usize,
    /// Groups that may be chosen from.
    pub kept: usize,
    /// Weights add up to the factor.
    pub normalise: bool,
    /// Factor of the weights.
    pub scale: f32,
}

/// Writes pairs of expert and weight (its bits), `top` for each row of `logits` `[n, experts]`.
pub fn route(r: &Routing, logits: &[f32], correction: &[f32], routes: &mut [u32]) {
    assert_eq!(routes.len(), logits.len() / r.experts * 2 * r.top, "route: a pair for each chosen expert");
    for (logits, routes) in logits.chunks_exact(r.experts).zip(routes.chunks_exact_mut(2 * r.top)) {
        let score =
            |e: usize| if r.sigmoid { sigmoid(logits[e].into()) + f64::from(correction[e]) } else { logits[e].into() };
        let scores: Vec<f64> = (0..r.experts).map(score).collect();
        let size = r.experts / r.groups;
        let ranks: Vec<f64> =
            scores.chunks_exact(size).map(|group| best(group, 2).iter().map(|i| group[*i]).sum()).collect();
        let open = best(&ranks, r.kept);
        let closed = |e: usize| !open.contains(&(e / size));
        let allowed: Vec<f64> = (0..r.experts).map(|e| if closed(e) { f64::NEG_INFINITY } else { scores[e] }).collect();
        let chosen = best(&allowed, r.top);
        let highest = f64::from(logits[chosen[0]]);
        let weight = |e: &usize| {
            let logit = f64::from(logits[*e]);
            if r.sigmoid { sigmoid(logit) } else { (logit - highest).exp() }
        };
        let weights: Vec<f64> = chosen.iter().map(weight).collect();
        let total = if r.normalise { weights.iter().sum::<f64>() + 1e-20 } else { 1.0 };
        for ((pair, e), weight) in routes.chunks_exact_mut(2).zip(chosen).zip(weights) {
            pair[0] = e as u32;
            pair[1] = ((weight / total * f64::from(r.scale)) as f32).to_bits();
        }
    }
}

/// Indices of the `n` largest numbers, largest first.
fn best(numbers: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*b].total_cmp(&numbers[*a]));
    order.truncate(n);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(r: &Routing, logits: &[f32], correction: &[f32]) -> Vec<(u32, f32)> {
        let mut routes = vec![0; 2 * r.top];
        route(r, logits, correction, &mut routes);
        routes.chunks_exact(2).map(|pair| (pair[0], f32::from_bits(pair[1]))).collect()
    }

    const PLAIN: Routing =
        Routing { experts: 4, top: 2, sigmoid: false, groups: 1, kept: 1, normalise: true, scale: 1.0 };

    #[test]
    fn softmax_is_over_the_chosen_alone() {
        let l = 3f32.ln();
        assert_eq!(run(&PLAIN, &[0.0, l, -5.0, 0.0], &[]), [(1, 0.75), (0, 0.25)]);
    }

    #[test]
    fn a_correction_chooses_but_does_not_weigh() {
        let r = Routing { sigmoid: true, scale: 2.0, ..PLAIN };
        let l = 3f32.ln();
        // Sigmoids 0.75, 0.5, 0.25, 0.25; the last is lifted above the second.
        let found = run(&r, &[l, 0.0, -l, -l], &[0.0, 0.0, 0.0, 0.3]);
        assert_eq!(found, [(0, 1.5), (3, 0.5)]);
        let plain = run(&Routing { normalise: false, ..r }, &[l, 0.0, -l, -l], &[0.0, 0.0, 0.0, 0.3]);
        assert_eq!(plain, [(0, 1.5), (3, 0.5)].map(|(e, _): (u32, f32)| (e, if e == 0 { 1.5 } else { 0.5 })));
    }

    #[test]
    fn groups_go_by_their_two_best() {
        let r = Routing { experts: 6, top: 2, sigmoid: true, groups: 2, kept: 1, ..PLAIN };
        // The single best expert is in the worse group.
        let found = run(&r, &[9.0, -9.0, -9.0, 2.0, 1.0, 3.0], &[0.0; 6]);
        assert_eq!(found.iter().map(|(e, _)| *e).collect::<Vec<_>>(), [5, 3]);
    }
}
