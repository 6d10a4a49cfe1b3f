// window[position % window, :] = kv[t, :] for the last min(tokens, window) tokens of a segment, after its attention has run:
// an early query of the segment still needed the rows that these overwrite. An invocation per column, a workgroup row per token.
struct Params { cols: u32, window: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> kv: array<f32>;               // (tokens, cols)
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> window: array<f32>;     // (window, cols)

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let column = group.x * 64u + local.x;
  if (column >= params.cols || group.y + params.window < control[TOKENS]) { return; }
  let slot = (first_position() + group.y) % params.window;
  let stride = row_stride(params.cols);
  window[slot * stride + column] = kv[group.y * stride + column];
}
