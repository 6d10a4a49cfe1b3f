// Rate of f32 multiply-adds: 8 independent chains of vec4 an invocation, `rounds` long. x ← x·a + b with a < 1 stays finite.
struct Params { rounds: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read_write> data: array<vec4<f32>>; // (invocations)

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let a = vec4(0.999, 0.998, 0.997, 0.996);
  let b = data[id.x] * 1e-3 + vec4(0.5);
  var x0 = b; var x1 = b + 0.1; var x2 = b + 0.2; var x3 = b + 0.3;
  var x4 = b + 0.4; var x5 = b + 0.5; var x6 = b + 0.6; var x7 = b + 0.7;
  for (var i = 0u; i < params.rounds; i += 1u) {
    x0 = fma(x0, a, b); x1 = fma(x1, a, b); x2 = fma(x2, a, b); x3 = fma(x3, a, b);
    x4 = fma(x4, a, b); x5 = fma(x5, a, b); x6 = fma(x6, a, b); x7 = fma(x7, a, b);
  }
  data[id.x] = (x0 + x1) + (x2 + x3) + ((x4 + x5) + (x6 + x7));
}
