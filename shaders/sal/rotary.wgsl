// Rotates the keys of a segment by their positions: half-split pairs (i, i + rotary/2) of the first `rotary` channels of
// every key head, angle position · theta^(−2i/rotary). An invocation per (head, pair), a workgroup row per token.
struct Params { heads: u32, head_dim: u32, rotary: u32, cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;        // (rotary / 2) pairs hi, lo
@group(1) @binding(0) var<storage, read> control: array<u32>;
@group(1) @binding(1) var<storage, read_write> kv: array<f32>;     // (tokens, cols): k then v

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let half = params.rotary / 2u;
  let pair = group.x * 64u + local.x;
  if (pair >= params.heads * half) { return; }
  let r = rotation(first_position() + group.y, pair % half);
  let at = group.y * row_stride(params.cols) + (pair / half) * params.head_dim + pair % half;
  let a = kv[at];
  let b = kv[at + half];
  kv[at] = a * r.x - b * r.y;
  kv[at + half] = b * r.x + a * r.y;
}
