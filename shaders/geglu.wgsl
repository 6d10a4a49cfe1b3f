// out[t, j] = gelu(x[t, 2j]) · x[t, 2j + 1], gelu(v) = v · (1 + erf(v / √2)) / 2. An invocation per output.
struct Params { cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;               // (tokens, 2·cols)
@group(1) @binding(1) var<storage, read_write> out: array<f32>;       // (tokens, cols)

// erfc(v) for v ≥ 0 (Abramowitz and Stegun 7.1.26), to 1.5e-7.
fn erfc(v: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.3275911 * v);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return p * exp(-min(v * v, 80.0));
}

fn gelu(v: f32) -> f32 {
  let tail = 0.5 * erfc(abs(v) * 0.70710678);
  return v * select(tail, 1.0 - tail, v >= 0.0);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let j = group.x * 64u + local.x;
  if (j >= params.cols) { return; }
  let at = group.y * row_stride(2u * params.cols) + 2u * j;
  out[group.y * row_stride(params.cols) + j] = gelu(x[at]) * x[at + 1u];
}
