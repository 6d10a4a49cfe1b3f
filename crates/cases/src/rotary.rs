//! Cases of `rotary`.

use taipan_kernels::Rotary;

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let sizes = [
        (1, 0, 1, 2, 2),
        (7, 3, 2, 16, 16),
        (65, 1_000_000, 3, 64, 64),
        (3, 4_000_000_000, 4, 128, 128),
        (5, 9, 3, 10, 4),
        (4, 77, 2, 96, 48),
    ];
    sizes
        .iter()
        .map(|&(tokens, first, heads, head_dim, channels)| {
            let mut b = Builder::new(
                "rotary",
                format!("{tokens} tokens at {first}, {heads} heads of {head_dim}, {channels} channels rotate"),
                seed,
                tokens,
                first,
            );
            let table = b.table(10_000.0, channels);
            let kv = b.rows("kv", tokens, 2 * heads * head_dim, -1.0, 1.0);
            b.check(kv.buffer);
            let control = b.control();
            b.call(Rotary { table, heads: heads as u32, head_dim: head_dim as u32, control, kv })
        })
        .collect()
}
