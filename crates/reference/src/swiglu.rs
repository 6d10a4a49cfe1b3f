//! The gated activation of the MLP.
//!
//! `out[t, j] = silu(gu[t, 2j])·gu[t, 2j + 1]`: gate and up rows of the weight are interleaved so that one matrix
//! product makes both. gu `[n, 2·f]`, out `[n, f]`. Source: arXiv 2410.18572, eq. 6; spec 1.2 step 8.

use crate::activation::silu;

/// Gates the `n = out.len() / f` rows of `gu`.
pub fn swiglu(gu: &[f32], f: usize, out: &mut [f32]) {
    assert!(out.len().is_multiple_of(f), "swiglu: out is not whole rows of {f}");
    assert_eq!(gu.len(), 2 * out.len(), "swiglu: gu is [n, 2·{f}]");
    // Rows need no loop of their own: pairs lie as densely as the outputs.
    for (o, pair) in out.iter_mut().zip(gu.chunks_exact(2)) {
        *o = (silu(f64::from(pair[0])) * f64::from(pair[1])) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    #[test]
    fn even_entries_gate_odd_ones() {
        let l = 3f32.ln();
        let mut out = [f32::NAN; 4];
        // silu(±ln 3) = ±ln 3·(0.75 | 0.25)
        swiglu(&[l, 2., -l, 2., 0., 5., l, -1.], 2, &mut out);
        assert_close(&out, &[1.5 * l, -0.5 * l, 0., -0.75 * l], 1e-6);
    }
}
