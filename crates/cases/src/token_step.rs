//! Cases of `token_step`: the calls that it stands for, of groups of blocks and a layer of selective attention each, at shapes
//! that it is written for.

use taipan_kernels::{
    Attention, Epilogue, Matvec, MergeAttention, Norm, Rows, TokenAttention, TokenGateKv, WeightFormat, selection,
};

use crate::Case;
use crate::attention::buckets;
use crate::builder::{Builder, CAPACITY};
use crate::mixer_step::block;

/// Sizes of the layers of a case.
#[derive(Clone, Copy)]
struct Layer {
    dim: usize,
    kv_heads: u32,
    mlp: usize,
    window: u32,
    /// Added to the score of a token that wants to be selected.
    bias: f32,
}

/// What is between calls, and does not leave the kernel.
struct Between {
    q: Rows,
    out: Rows,
    parts: Rows,
    mlp: Rows,
}

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (first, period, groups, (kv_heads, mlp, window, bias), bucket, format) in [
        (0, 1, 1, (2, 576, 8, 9.0), 0, WeightFormat::F16),
        (5, 2, 2, (1, 576, 64, -9.0), 0, WeightFormat::Bf16),
        (70, 1, 3, (2, 576, 64, 0.0), 1, WeightFormat::F16),
        (300, 1, 2, (1, 576, 257, 9.0), 0, WeightFormat::Q8),
        (40, 2, 2, (2, 576, 64, 9.0), 2, WeightFormat::Q4),
        // One workgroup alone has no memory for as many.
        (40, 1, 2, (4, 768, 64, 9.0), 0, WeightFormat::F16),
        (2100, 2, 1, (4, 704, 2048, 9.0), 0, WeightFormat::F16),
    ] {
        let layer = Layer { dim: 256, kv_heads, mlp, window, bias };
        let name = buckets()[bucket].0;
        let shape = format!(
            "256 wide, {groups} times {period} blocks and 4/{kv_heads} heads at {first}, window {window}, {mlp} outputs, bias {bias}, \
             {name}"
        );
        let mut b = Builder::new("token_step", shape, seed, 1, first).format(format);
        let x = b.rows("x", 1, layer.dim, -2.0, 2.0);
        b.check(x.buffer);
        let projected = b.rows("projected", 1, 4 * layer.dim + 256 + 8, -1.0, 1.0);
        let y = b.rows("y", 1, 2 * layer.dim, -1.0, 1.0);
        let part_cols = MergeAttention::part_cols(4, 64) as usize;
        let between = Between {
            q: b.rows("q", 1, layer.dim, -1.0, 1.0),
            out: b.rows("out", 1, layer.dim, -1.0, 1.0),
            parts: b.rows("parts", MergeAttention::MOST as usize, part_cols, -1.0, 1.0),
            mlp: b.rows("mlp", 1, mlp, -1.0, 1.0),
        };
        for _ in 0..groups {
            (0..period).for_each(|_| block(&mut b, (layer.dim, 64), [x, projected, y]));
            attention(&mut b, layer, x, &between, &buckets()[bucket].1);
        }
        out.push(b.build());
    }
    out
}

/// Adds the calls of a layer with its MLP.
fn attention(b: &mut Builder, layer: Layer, x: Rows, between: &Between, bucket: &[u32]) {
    let Layer { dim, kv_heads, mlp, window, bias } = layer;
    let heads = dim as u32 / 64;
    let attention = Attention { heads, kv_heads, head_dim: 64, window, scale: 0.125 };
    let (eps, capacity, control) = (1e-5, CAPACITY as u32, b.control());
    let mut words = b.numbers(3 * dim, -0.9, 0.9);
    words.extend([0.0, bias]);
    let gate = b.vector(words);
    let kv = b.matrix(attention.kv_cols() as usize, dim);
    let (q, o) = (b.matrix(dim, dim), b.matrix(dim, dim));
    let (up, down) = (b.matrix(2 * mlp, dim), b.matrix(dim, mlp));
    let mlp_norm = b.random_vector(dim, 0.5, 1.5);
    let (ring, sal) = (b.ring(&attention), b.words("sal", bucket.to_vec()));
    let selection = b.words("selection", vec![0; selection::len(CAPACITY)]);
    [ring, sal, selection].into_iter().for_each(|id| b.check(id));
    b.then(TokenGateKv {
        attention,
        weight: kv,
        gate,
        eps,
        table: None,
        hidden: x,
        control,
        ring,
        sal,
        selection,
        capacity,
    });
    let matvec = |weight, norm, x, y, epilogue, selection: Option<_>| Matvec {
        weight,
        bias: None,
        norm,
        x,
        y,
        epilogue,
        control,
        selection,
        only_selected: selection.is_some(),
    };
    let norm = |weight| Some(Norm { weight, eps, groups: 1 });
    b.then(matvec(q, norm(gate), x, between.q, Epilogue::Store, Some(selection)));
    let Between { q, out, parts, mlp } = *between;
    let selected = Some(selection);
    b.then(TokenAttention { attention, table: None, q, kv: None, ring, control, selection: selected, out, parts });
    b.then(matvec(o, None, out, x, Epilogue::Mix, selected));
    b.then(matvec(up, norm(mlp_norm), x, mlp, Epilogue::Swiglu(1.0), None));
    b.then(matvec(down, None, mlp, x, Epilogue::Add(0.8), None));
}
