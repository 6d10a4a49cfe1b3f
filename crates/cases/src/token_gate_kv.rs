//! Cases of `token_gate_kv`.

use taipan_kernels::{TokenGateKv, WeightFormat, selection};

use crate::Case;
use crate::attention::{attention, buckets};
use crate::builder::{Builder, CAPACITY};

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for format in WeightFormat::ALL {
        for (bucket, words) in buckets() {
            for (i, (cols, kv_heads, head_dim, rope)) in
                [(1, 1, 1, false), (40, 2, 5, false), (64, 4, 16, true), (65, 1, 64, true), (600, 2, 6, true)]
                    .into_iter()
                    .enumerate()
            {
                let shape = format!("{cols} to {kv_heads} heads of {head_dim}, rotary {rope}, {bucket}");
                let mut b = Builder::new("token_gate_kv", shape, seed + i as u64, 1, 37 + i).format(format);
                let attention = attention(2 * kv_heads, kv_heads, head_dim, 8);
                let weight = b.matrix(attention.kv_cols() as usize, cols);
                let gate = b.random_vector(3 * cols + 2, -0.9, 0.9);
                let table = rope.then(|| b.table(10_000.0, head_dim as usize));
                let hidden = b.rows("hidden", 1, cols, -2.0, 2.0);
                let (ring, sal) = (b.ring(&attention), b.words("sal", words.clone()));
                let selection = b.words("selection", vec![0; selection::len(CAPACITY)]);
                b.check(ring);
                b.check(sal);
                b.check(selection);
                let (control, capacity) = (b.control(), CAPACITY as u32);
                // One that shows beside a mean square of about 1.
                let eps = [1e-5, 0.3][i % 2];
                out.push(b.call(TokenGateKv {
                    attention,
                    weight,
                    gate,
                    eps,
                    table,
                    hidden,
                    control,
                    ring,
                    sal,
                    selection,
                    capacity,
                }));
            }
        }
    }
    out
}
