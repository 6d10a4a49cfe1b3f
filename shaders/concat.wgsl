// out[t, c] = a[t, c] for c < a_cols, b[t, c − a_cols] from there on: rows side by side; without B a copy.
// An invocation per column, a workgroup row per token.
struct Params { a_cols: u32, b_cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> a: array<f32>;               // (tokens, a_cols)
@group(1) @binding(1) var<storage, read> b: array<f32>;               // (tokens, b_cols) if B
@group(1) @binding(2) var<storage, read_write> out: array<f32>;       // (tokens, a_cols + b_cols)

override B: bool = true;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let c = group.x * 64u + local.x;
  let cols = params.a_cols + params.b_cols;
  if (c >= cols) { return; }
  var value = 0.0;
  if (c < params.a_cols) {
    value = a[group.y * row_stride(params.a_cols) + c];
  } else if (B) {
    value = b[group.y * row_stride(params.b_cols) + c - params.a_cols];
  }
  out[group.y * row_stride(cols) + c] = value;
}
