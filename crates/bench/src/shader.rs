//! The benchmark's own shaders, run through the product's GPU layer.

use taipan_gpu::{Bound, Buffer, Gpu, Prepared};
use taipan_kernels::{Decl, Grid, Launch, Shared, Word, read, write};

const fn decl(name: &'static str, body: &'static str, bindings: &'static [taipan_kernels::Binding]) -> Decl {
    Decl { name, body, shared: &[], matrix: false, bindings, workgroup: [256, 1, 1] }
}

pub(crate) static FILL: Decl =
    Decl { shared: &[Shared::Rows, Shared::Random], ..decl("bench fill", include_str!("fill.wgsl"), &[write("out")]) };
pub(crate) static COPY: Decl = decl("bench copy", include_str!("copy.wgsl"), &[read("source"), write("target_")]);
pub(crate) static FMA: Decl = decl("bench fma", include_str!("fma.wgsl"), &[write("data")]);
pub(crate) static STEP: Decl = decl("bench step", include_str!("step.wgsl"), &[write("data")]);

/// A dispatch of one of them, ready to encode.
pub(crate) fn prepare(
    gpu: &Gpu,
    decl: &'static Decl,
    overrides: Vec<(&'static str, f64)>,
    params: Vec<(&'static str, Word)>,
    groups: [u32; 3],
    buffers: &[&Buffer],
) -> (Prepared, Bound) {
    let launch = Launch { overrides, params, vectors: vec![], buffers: vec![], grid: Grid::Fixed(groups) };
    let prepared = gpu.prepare(decl, None, &launch, None, &[]);
    let buffers: Vec<_> = buffers.iter().map(|b| Some(*b)).collect();
    let bound = gpu.bind_session(&prepared, &buffers, None);
    (prepared, bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shader_is_valid_on_base_webgpu() {
        for decl in [&FILL, &COPY, &FMA, &STEP] {
            let module =
                naga::front::wgsl::parse_str(&decl.source(None)).unwrap_or_else(|e| panic!("{}: {e}", decl.name));
            // Packed halves, as the product's kernels unpack them; WebGPU has them always.
            let packed = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
            let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), packed);
            validator.validate(&module).unwrap_or_else(|e| panic!("{}: {e:?}", decl.name));
        }
        assert!(naga::front::wgsl::parse_str("fn main( {").is_err());
    }
}
