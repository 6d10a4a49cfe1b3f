// One projection of the experts that a token goes to; their matrices are stacked, `rows` rows each.
//   expand:  y[t, i] = activation(W[expert i of t] · x[t])                for every chosen expert i
//   COMBINE: y[t] += scale · Σᵢ weightᵢ · (W[expert i of t] · x[t, i])     (STORE: = where the first piece of W begins)
//   activation: SWIGLU silu(v[2j]) · v[2j + 1] (rows interleaved) · else max(v, 0)²
// W may lie in several pieces: rows of other pieces are left alone. A workgroup of 64 has 4 slots of 16 lanes, a slot owns a
// pair of rows; a workgroup row per token, a layer of workgroups per chosen expert (COMBINE: one for all).
struct Params { cols: u32, rows: u32, first_row: u32, piece_rows: u32, y_cols: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<vec4<f32>>;        // (tokens, cols); COMBINE: (tokens · TOP, cols)
@group(1) @binding(1) var<storage, read> routes: array<u32>;         // (tokens, TOP) pairs: expert, weight
@group(1) @binding(2) var<storage, read_write> y: array<f32>;        // (tokens · TOP, y_cols); COMBINE: (tokens, y_cols)

override TOP: u32 = 2u;
override COMBINE: bool = false;
override STORE: bool = false;
override SWIGLU: bool = true;
const LANES = 16u;
const SLOTS = 4u;
const WIDTH = 64u; // SLOTS * LANES
var<workgroup> partial: array<vec2<f32>, WIDTH>;

// This lane's part of a pair of rows of an expert, times row `r` of x; nothing where another piece has them.
fn products(expert: u32, row: u32, r: u32, lane: u32) -> vec2<f32> {
  let first = expert * params.rows + row - params.first_row; // wraps to a huge number below the piece
  if (row >= params.rows || first >= params.piece_rows) { return vec2(0.0); }
  let eights = row_stride(params.cols) / 8u;
  let second = min(first + 1u, params.piece_rows - 1u);
  var sum = vec2(0.0);
  for (var i = lane % LANES; i < eights; i += LANES) {
    let lo = x[(r * eights + i) * 2u];
    let hi = x[(r * eights + i) * 2u + 1u];
    let a = weight8(first * eights + i);
    let b = weight8(second * eights + i);
    sum += vec2(dot(a.lo, lo) + dot(a.hi, hi), dot(b.lo, lo) + dot(b.hi, hi));
  }
  return sum;
}

fn slot_sum(lane: u32, value: vec2<f32>) -> vec2<f32> {
  partial[lane] = value;
  workgroupBarrier();
  var sum = vec2(0.0);
  for (var i = 0u; i < LANES; i += 1u) { sum += partial[(lane / LANES) * LANES + i]; }
  return sum;
}

fn combine(at: u32, row: u32, value: vec2<f32>) {
  let starts = STORE && params.first_row == 0u;
  for (var i = 0u; i < 2u && row + i < params.rows; i += 1u) {
    let v = params.scale * value[i];
    if (starts) { y[at + row + i] = v; } else { y[at + row + i] += v; }
  }
}

fn activate(at: u32, row: u32, value: vec2<f32>) {
  if (SWIGLU) {
    y[at + row / 2u] = silu(value.x) * value.y;
    return;
  }
  let v = max(value, vec2(0.0));
  y[at + row] = v.x * v.x;
  if (row + 1u < params.rows) { y[at + row + 1u] = v.y * v.y; }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = 2u * (group.x * SLOTS + lane / LANES);
  let token = group.y;
  let route = 2u * token * TOP;
  var sum = vec2(0.0);
  if (COMBINE) {
    for (var i = 0u; i < TOP; i += 1u) {
      let weight = bitcast<f32>(routes[route + 2u * i + 1u]);
      sum += weight * products(routes[route + 2u * i], row, token * TOP + i, lane);
    }
  } else {
    sum = products(routes[route + 2u * group.z], row, token, lane);
  }
  sum = slot_sum(lane, sum);
  if (lane % LANES != 0u || row >= params.rows) { return; }
  if (COMBINE) {
    combine(token * row_stride(params.y_cols), row, sum);
    return;
  }
  let first = routes[route + 2u * group.z] * params.rows + row - params.first_row;
  if (first < params.piece_rows) { activate((token * TOP + group.z) * row_stride(params.y_cols), row, sum); }
}
