// The parts of one token's `token_attention` put together:
//   out = Σ_s w_s·acc_s / Σ_s w_s·total_s,  w_s = exp(highest_s − max_s highest_s)
// A workgroup per head, a lane per channel.
struct Params { heads: u32, head_dim: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> parts: array<f32>;      // (PARTS, heads·head_dim + 2·heads): acc | highest | total
@group(1) @binding(1) var<storage, read> selection: array<u32>;  // unless ALL
@group(1) @binding(2) var<storage, read_write> out: array<f32>;  // (1, heads·head_dim)

override ALL: bool = false;
override PARTS: u32 = 2u;
const WIDTH = 64u;
const MOST = 32u; // parts
var<workgroup> weights: array<f32, MOST>; // zero where there is no part
var<workgroup> totals: array<f32, MOST>;

// Part s of one column, or anything where there is none.
fn part(s: u32, column: u32) -> f32 {
  return parts[min(s, PARTS - 1u) * row_stride(params.heads * params.head_dim + 2u * params.heads) + column];
}

// Four parts of a column, weighted.
fn weighted(s: u32, column: u32) -> f32 {
  let v = vec4(part(s, column), part(s + 1u, column), part(s + 2u, column), part(s + 3u, column));
  return dot(v, vec4(weights[s], weights[s + 1u], weights[s + 2u], weights[s + 3u]));
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (!ALL && selection[COUNT] == 0u) { return; }
  let head = group.x;
  let cols = params.heads * params.head_dim;
  if (lane < MOST) {
    weights[lane] = part(lane, cols + head);
    totals[lane] = part(lane, cols + params.heads + head);
  }
  workgroupBarrier();
  var highest = weights[0];
  for (var s = 1u; s < PARTS; s += 1u) { highest = max(highest, weights[s]); }
  workgroupBarrier();
  if (lane < MOST) { weights[lane] = select(0.0, exp(max(weights[lane] - highest, -80.0)), lane < PARTS); }
  workgroupBarrier();
  var total = 0.0;
  for (var s = 0u; s < PARTS; s += 1u) { total += weights[s] * totals[s]; }
  for (var d = lane; d < params.head_dim; d += WIDTH) {
    let column = head * params.head_dim + d;
    var sum = 0.0;
    for (var s = 0u; s < PARTS; s += 8u) { sum += weighted(s, column) + weighted(s + 4u, column); }
    out[column] = sum / total;
  }
}
