// window[position % window, :] = kv[t, :] for the last min(tokens, window) tokens of a segment, after its attention has run:
// an early query of the segment still needed the rows that these overwrite. An invocation per four columns, what pads a row
// included, of four tokens, whose rows are on their way together.
struct Params { cols: u32, window: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> kv: array<vec4<f32>>;            // (tokens, cols)
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> window: array<vec4<f32>>;  // (window, cols)

fn put(t: u32, column: u32, v: vec4<f32>) {
  if (t >= control[TOKENS] || t + params.window < control[TOKENS]) { return; }
  let slot = (first_position() + t) % params.window;
  window[slot * (row_stride(params.cols) / 4u) + column] = v;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let column = group.x * 64u + local.x;
  let fours = row_stride(params.cols) / 4u;
  if (column >= fours) { return; }
  let last = control[TOKENS] - 1u;
  let t = group.y * 4u;
  let a = kv[t * fours + column];
  let b = kv[min(t + 1u, last) * fours + column];
  let c = kv[min(t + 2u, last) * fours + column];
  let d = kv[min(t + 3u, last) * fours + column];
  put(t, column, a);
  put(t + 1u, column, b);
  put(t + 2u, column, c);
  put(t + 3u, column, d);
}
