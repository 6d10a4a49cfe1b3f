//! Cases of `mixer_step`: the three calls that it stands for, at shapes that it is written for.

use taipan_kernels::{Epilogue, Matvec, MixerUpdate, Norm, WeightFormat};

use crate::Case;
use crate::builder::Builder;

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    for (dim, head_dim, first, format) in [
        (256, 64, 0, WeightFormat::F16),
        (256, 32, 2, WeightFormat::Bf16),
        (256, 128, 5, WeightFormat::F16),
        (512, 64, 3, WeightFormat::Bf16),
        (768, 64, 1000, WeightFormat::F16),
    ] {
        let heads = 2 * dim / head_dim;
        let shape = format!("{dim} wide, {heads} heads of {head_dim} at {first}");
        let mut b = Builder::new("mixer_step", shape, seed, 1, first).format(format);
        let mut mixer = b.mixer(heads, head_dim, 1, 128, 4);
        if first == 5 {
            mixer.dt_limit = (0.02, 0.3);
            (mixer.z_scale, mixer.dt_scale) = (0.6, 1.4);
        }
        let control = b.control();
        let (rows, inner) = (mixer.projected() as usize, 2 * dim);
        let (in_proj, out_proj) = (b.matrix(rows, dim), b.matrix(dim, inner));
        let norms = [dim, inner].map(|n| Norm { weight: b.random_vector(n, 0.5, 1.5), eps: 1e-5, groups: 1 });
        let x = b.rows("x", 1, dim, -2.0, 2.0);
        // What in_proj gives stays where it is in one dispatch.
        let projected = b.rows("projected", 1, rows, -1.0, 1.0);
        let conv_state = b.conv_ring(4, mixer.channels() as usize);
        let ssm = b.rows("ssm", inner, 128, -1.0, 1.0).buffer;
        let y = b.output("y", 1, inner);
        b.check(x.buffer);
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
        out.push(b.call(matvec(out_proj, norms[1], y, x, Epilogue::Add(if first == 0 { 1.0 } else { 0.7 }))));
    }
    out
}
