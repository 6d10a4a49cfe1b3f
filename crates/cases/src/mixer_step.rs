//! Cases of `mixer_step`: the calls that it stands for, three of each block, at shapes that it is written for.

use taipan_kernels::{Epilogue, Matvec, MixerUpdate, Norm, Rows, WeightFormat};

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (dim, head_dim, first, blocks, format) in [
        (256, 64, 0, 1, WeightFormat::F16),
        (256, 32, 2, 3, WeightFormat::Bf16),
        (256, 128, 5, 2, WeightFormat::F16),
        (256, 64, 6, 3, WeightFormat::Q8),
        (256, 32, 4, 3, WeightFormat::Q4),
        (512, 64, 3, 1, WeightFormat::Bf16),
        (768, 64, 1000, 2, WeightFormat::F16),
    ] {
        let heads = 2 * dim / head_dim;
        let shape = format!("{dim} wide, {heads} heads of {head_dim} at {first}, {blocks} blocks");
        let mut b = Builder::new("mixer_step", shape, seed, 1, first).format(format);
        let x = b.rows("x", 1, dim, -2.0, 2.0);
        // What in_proj and the state give stays where it is in one dispatch.
        let projected = b.rows("projected", 1, 4 * dim + 256 + heads, -1.0, 1.0);
        let y = b.rows("y", 1, 2 * dim, -1.0, 1.0);
        b.check(x.buffer);
        (0..blocks).for_each(|_| block(&mut b, (dim, head_dim), [x, projected, y]));
        out.push(b.build());
    }
    out
}

/// Adds the calls of a block.
pub(crate) fn block(b: &mut Builder, (dim, head_dim): (usize, usize), [x, projected, y]: [Rows; 3]) {
    let (first, inner) = (b.first(), 2 * dim);
    let mut mixer = b.mixer(inner / head_dim, head_dim, 1, 128, 4);
    if first == 5 {
        mixer.dt_limit = (0.02, 0.3);
        (mixer.z_scale, mixer.dt_scale) = (0.6, 1.4);
    }
    let control = b.control();
    let (in_proj, out_proj) = (b.matrix(mixer.projected() as usize, dim), b.matrix(dim, inner));
    let norms = [dim, inner].map(|n| Norm { weight: b.random_vector(n, 0.5, 1.5), eps: 1e-5, groups: 1 });
    let conv_state = b.conv_ring(4, mixer.channels() as usize);
    let ssm = b.rows("ssm", inner, 128, -1.0, 1.0).buffer;
    b.check(conv_state);
    b.check(ssm);
    let matvec = |weight, norm, x, y, epilogue| Matvec {
        weight,
        bias: None,
        norm: Some(norm),
        x,
        y,
        epilogue,
        control,
        selection: None,
        only_selected: false,
    };
    b.then(matvec(in_proj, norms[0], x, projected, Epilogue::Store));
    b.then(MixerUpdate { mixer, gate: true, projected, control, conv_state, ssm, y });
    b.then(matvec(out_proj, norms[1], y, x, Epilogue::Add(if first == 0 { 1.0 } else { 0.7 })));
}
