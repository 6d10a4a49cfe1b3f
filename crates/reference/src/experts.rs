//! A projection of the experts that a token goes to.
//!
//! Expand: `y[t, i] = activation(W[e] · x[t])` for the i-th expert e of token t, activation SwiGLU (rows of gate and up
//! interleaved) or `max(v, 0)²`. Combine: `y[t] += scale · Σᵢ weightᵢ · (W[e] · x[t, i])`, or `=` where nothing was there.

use crate::sum::dot;
use crate::{relu2, silu};

/// What is done with the products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Projection {
    /// Up, with a gate.
    Swiglu,
    /// Up, without one.
    Relu2,
    /// Down, added to y times a factor.
    Add(f32),
    /// Down, to y.
    Store,
}

/// Rows are those of one expert; `matrix` gives an expert's `[rows, cols]`. `routes` has `top` pairs of expert and weight for
/// each token.
pub fn experts(
    projection: Projection,
    cols: usize,
    top: usize,
    x: &[f32],
    routes: &[u32],
    mut matrix: impl FnMut(usize) -> Vec<f32>,
    y_cols: usize,
    y: &mut [f32],
) {
    for (t, routes) in routes.chunks_exact(2 * top).enumerate() {
        let mut sum = vec![0.0f64; y_cols];
        for (i, pair) in routes.chunks_exact(2).enumerate() {
            let w = matrix(pair[0] as usize);
            let expand = matches!(projection, Projection::Swiglu | Projection::Relu2);
            let at = if expand { t } else { t * top + i };
            let x = &x[at * cols..][..cols];
            let v: Vec<f64> = w.chunks_exact(cols).map(|row| dot(row, x)).collect();
            let out = &mut y[(t * top + i) * usize::from(expand) * y_cols..][..y_cols];
            match projection {
                Projection::Swiglu => {
                    out.iter_mut().zip(v.chunks_exact(2)).for_each(|(y, v)| *y = (silu(v[0]) * v[1]) as f32);
                }
                Projection::Relu2 => out.iter_mut().zip(&v).for_each(|(y, v)| *y = relu2(*v) as f32),
                Projection::Add(_) | Projection::Store => {
                    let weight = f64::from(f32::from_bits(pair[1]));
                    sum.iter_mut().zip(&v).for_each(|(sum, v)| *sum += weight * v);
                }
            }
        }
        let out = y[t * y_cols..].iter_mut().zip(&sum);
        match projection {
            Projection::Add(scale) => out.for_each(|(y, v)| *y += (f64::from(scale) * v) as f32),
            Projection::Store => out.for_each(|(y, v)| *y = *v as f32),
            Projection::Swiglu | Projection::Relu2 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expert_has_its_own_matrix_and_row() {
        let matrix = |e: usize| vec![e as f32, 0.0, 0.0, 1.0];
        let routes = [2, 0.5f32.to_bits(), 3, 0.25f32.to_bits()];
        let mut up = [0.0; 4];
        experts(Projection::Relu2, 2, 2, &[1.0, -1.0], &routes, matrix, 2, &mut up);
        assert_eq!(up, [4.0, 0.0, 9.0, 0.0]);
        let mut y = [10.0, 20.0];
        experts(Projection::Add(2.0), 2, 2, &[1.0, 2.0, 3.0, 4.0], &routes, matrix, 2, &mut y);
        // 2·(0.5·(2, 2) + 0.25·(9, 4))
        assert_eq!(y, [10.0 + 6.5, 20.0 + 4.0]);
        experts(Projection::Store, 2, 2, &[1.0, 2.0, 3.0, 4.0], &routes, matrix, 2, &mut y);
        assert_eq!(y, [3.25, 2.0]);
        let mut gated = [0.0; 2];
        experts(Projection::Swiglu, 2, 2, &[1.0, 5.0], &routes, matrix, 1, &mut gated);
        assert_eq!(gated, [2.0, 3.0].map(|g: f64| (silu(g) * 5.0) as f32));
    }
}
