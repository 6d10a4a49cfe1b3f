//! Cases of `merge_attention`.

use taipan_kernels::MergeAttention;

use crate::Case;
use crate::attention::attention;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (heads, head_dim, count, every) in
        [(1, 1, 1, Some(1)), (3, 5, 2, Some(1)), (2, 64, 9, Some(2)), (4, 130, 8, None), (2, 65, 32, None)]
    {
        let shape = format!("{count} parts, {heads} heads of {head_dim}, every {every:?}th");
        let b = Builder::new("merge_attention", shape, seed, 1, 9);
        out.push(case(b, heads, head_dim, count, every));
    }
    out
}

fn case(mut b: Builder, heads: u32, head_dim: u32, count: u32, every: Option<usize>) -> Case {
    let cols = MergeAttention::part_cols(heads, head_dim) as usize;
    // Totals are not negative, and the highest scores so high that their exps are beyond f32.
    let parts = b.rows("parts", count as usize, cols, 60.0, 100.0);
    let selection = every.map(|every| b.selection(every).selection);
    let out = b.output("out", 1, (heads * head_dim) as usize);
    b.call(MergeAttention { attention: attention(heads, heads, head_dim, 9), count, parts, selection, out })
}
