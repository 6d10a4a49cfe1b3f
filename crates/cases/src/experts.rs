//! Cases of `experts`.

use taipan_kernels::{Experts, WeightFormat};
use taipan_reference::Projection;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    let up = [Projection::Swiglu, Projection::Relu2];
    let down = [Projection::Add(0.75), Projection::Store];
    for format in WeightFormat::ALL {
        for (i, projection) in up.into_iter().chain(down).enumerate() {
            let (tokens, rows, cols, count, top) =
                [(1, 6, 40, 3, 1), (7, 10, 65, 5, 3), (3, 34, 8, 4, 2), (65, 2, 300, 2, 2)][i];
            out.push(case(seed, format, projection, [tokens, rows, cols, count, top], usize::MAX));
            out.push(case(seed, format, projection, [tokens, 18, 24, 4, 2], usize::MAX));
        }
    }
    // Pieces that end within an expert, so that one token's experts lie in several.
    for projection in up.into_iter().chain(down) {
        out.push(case(seed, WeightFormat::F32, projection, [5, 12, 24, 6, 3], 20));
    }
    // An odd number of rows, which only a matrix in one piece may have.
    out.push(case(seed, WeightFormat::F32, Projection::Add(1.0), [4, 7, 9, 3, 2], usize::MAX));
    out.push(case(seed, WeightFormat::F32, Projection::Relu2, [4, 7, 9, 3, 2], usize::MAX));
    out
}

fn case(
    seed: u64,
    format: WeightFormat,
    projection: Projection,
    [tokens, rows, cols, count, top]: [usize; 5],
    split: usize,
) -> Case {
    let shape = format!("{tokens} tokens, {top} of {count} experts of {rows} x {cols}, {projection:?}");
    let mut b = Builder::new("experts", shape, seed, tokens, 0).format(format);
    if split < usize::MAX {
        b = b.split(split);
    }
    let weight = b.matrix(count * rows, cols);
    let up = matches!(projection, Projection::Swiglu | Projection::Relu2);
    let (x_rows, y_rows) = if up { (tokens, tokens * top) } else { (tokens * top, tokens) };
    let x = b.rows("x", x_rows, cols, -2.0, 2.0);
    let mut routes = Vec::new();
    for t in 0..tokens {
        for i in 0..top {
            // Different experts for a token.
            routes.push(((t * 7 + i) % count) as u32);
            routes.push(b.number(0.1, 1.0).to_bits());
        }
    }
    let routes = b.words("routes", routes);
    let y = b.rows("y", y_rows, if projection == Projection::Swiglu { rows / 2 } else { rows }, -1.0, 1.0);
    b.check(y.buffer);
    b.call(Experts { weight, rows: rows as u32, top: top as u32, projection, x, routes, y })
}
