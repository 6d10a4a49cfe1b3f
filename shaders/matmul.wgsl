// Many tokens: y[m, :] = epilogue(x[m, :] · Wᵀ + bias). Tiles of 64 tokens by 64 rows of W, 32 columns staged at a time in
// workgroup memory (transposed 4 by 4 on the way in), an 8 by 8 register tile per invocation, f32 accumulation.
//   GATHER  row m of x is the token selection.index[m]            (q_proj: compact output)
//   SCATTER row m of y is the token selection.index[m]            (o_proj: compact input)
//   epilogue: STORE · ADD y += scale·v · MIX y = (1 − α)·y + α·v · RELU2 y = max(v, 0)²
//             SWIGLU y[j] = silu(scale·v[2j]) · v[2j + 1] (rows interleaved)
struct Params { cols: u32, rows: u32, first_row: u32, y_cols: u32, x_first: u32, most: u32, capacity: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> bias: array<f32>;       // (all rows) if BIAS
@group(1) @binding(0) var<storage, read> x: array<vec4<f32>>;    // (tokens, cols)
@group(1) @binding(1) var<storage, read_write> y: array<f32>;    // (tokens, y_cols)
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read> selection: array<u32>;  // if GATHER or SCATTER

override BIAS: bool = false;
override GATHER: bool = false;
override SCATTER: bool = false;
override EPILOGUE: u32 = 0u;
const STORE = 0u;
const ADD = 1u;
const MIX = 2u;
const SWIGLU = 3u;
const RELU2 = 4u;
const TILE = 64u; // tokens and rows of a tile
const STEP = 32u; // columns staged at a time
const QUADS = 16u; // TILE / 4

var<workgroup> xs: array<vec4<f32>, 512>; // [column of STEP][quad of tokens]
var<workgroup> ws: array<vec4<f32>, 512>; // [column of STEP][quad of rows]

fn token_count() -> u32 {
  if (GATHER || SCATTER) { return selection[COUNT]; }
  return min(control[TOKENS] - params.x_first, params.most);
}

fn load_x(m: u32, count: u32, four: u32, fours: u32) -> vec4<f32> {
  if (m >= count || four >= fours) { return vec4(0.0); }
  var row = m + params.x_first;
  if (GATHER) { row = selection[index_at(m, params.capacity)]; }
  return x[row * fours + four];
}

// Stages a 4 by 4 block, transposed: four tokens, four columns.
fn stage_x(quad: u32, column: u32, m: u32, count: u32, four: u32, fours: u32) {
  let t = transpose(mat4x4(load_x(m, count, four, fours), load_x(m + 1u, count, four, fours),
                           load_x(m + 2u, count, four, fours), load_x(m + 3u, count, four, fours)));
  for (var c = 0u; c < 4u; c += 1u) { xs[(column + c) * QUADS + quad] = t[c]; }
}

fn load_w(row: u32, eight: u32, eights: u32) -> Eight {
  if (row >= params.rows || eight >= eights) { return Eight(vec4(0.0), vec4(0.0)); }
  return weight8(row * weight_stride(params.cols) + eight);
}

fn stage_w(quad: u32, column: u32, row: u32, eight: u32, eights: u32) {
  let a = load_w(row, eight, eights);
  let b = load_w(row + 1u, eight, eights);
  let c = load_w(row + 2u, eight, eights);
  let d = load_w(row + 3u, eight, eights);
  let lo = transpose(mat4x4(a.lo, b.lo, c.lo, d.lo));
  let hi = transpose(mat4x4(a.hi, b.hi, c.hi, d.hi));
  for (var i = 0u; i < 4u; i += 1u) {
    ws[(column + i) * QUADS + quad] = lo[i];
    ws[(column + 4u + i) * QUADS + quad] = hi[i];
  }
}

fn finish_pair(base: u32, row: u32, value: vec2<f32>) {
  if (row >= params.rows) { return; }
  let at = params.first_row + row;
  var v = value;
  if (BIAS) { v += vec2(bias[at], bias[at + 1u]); }
  y[base + at / 2u] = silu(params.scale * v.x) * v.y;
}

fn finish(m: u32, row: u32, value: vec4<f32>) {
  var token = m;
  if (SCATTER) { token = selection[index_at(m, params.capacity)]; }
  let at = token * row_stride(params.y_cols) + params.first_row;
  if (EPILOGUE == SWIGLU) {
    finish_pair(token * row_stride(params.y_cols), row, value.xy);
    finish_pair(token * row_stride(params.y_cols), row + 2u, value.zw);
    return;
  }
  for (var r = 0u; r < 4u; r += 1u) {
    if (row + r >= params.rows) { return; }
    var v = value[r];
    if (BIAS) { v += bias[params.first_row + row + r]; }
    if (EPILOGUE == STORE) {
      y[at + row + r] = v;
    } else if (EPILOGUE == ADD) {
      y[at + row + r] += params.scale * v;
    } else if (EPILOGUE == RELU2) {
      y[at + row + r] = max(v, 0.0) * max(v, 0.0);
    } else {
      let alpha = bitcast<f32>(selection[alpha_at(token)]);
      y[at + row + r] = (1.0 - alpha) * y[at + row + r] + alpha * v;
    }
  }
}

fn finish_four(m: u32, count: u32, row: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
  if (m < count) { finish(m, row, v0); }
  if (m + 1u < count) { finish(m + 1u, row, v1); }
  if (m + 2u < count) { finish(m + 2u, row, v2); }
  if (m + 3u < count) { finish(m + 3u, row, v3); }
}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  let count = token_count();
  let m0 = group.x * TILE;
  let row0 = group.y * TILE;
  if (m0 >= count) { return; }
  let eights = row_stride(params.cols) / 8u;
  // Eight tokens by eight rows in registers: sixteen loads from workgroup memory feed 64 multiply-adds.
  var a0 = vec4(0.0);
  var a1 = vec4(0.0);
  var a2 = vec4(0.0);
  var a3 = vec4(0.0);
  var a4 = vec4(0.0);
  var a5 = vec4(0.0);
  var a6 = vec4(0.0);
  var a7 = vec4(0.0);
  var b0 = vec4(0.0);
  var b1 = vec4(0.0);
  var b2 = vec4(0.0);
  var b3 = vec4(0.0);
  var b4 = vec4(0.0);
  var b5 = vec4(0.0);
  var b6 = vec4(0.0);
  var b7 = vec4(0.0);
  for (var k = 0u; k < eights; k += STEP / 8u) {
    for (var i = lane; i < 128u; i += 64u) {
      let quad = i / 8u;
      let four = i % 8u;
      stage_x(quad, four * 4u, m0 + quad * 4u, count, 2u * k + four, 2u * eights);
    }
    stage_w(lane / 4u, (lane % 4u) * 8u, row0 + (lane / 4u) * 4u, k + lane % 4u, eights);
    workgroupBarrier();
    for (var c = 0u; c < STEP; c += 1u) {
      let x0 = xs[c * QUADS + local.y];
      let x1 = xs[c * QUADS + local.y + 8u];
      let w0 = ws[c * QUADS + local.x];
      let w1 = ws[c * QUADS + local.x + 8u];
      a0 += x0.x * w0;
      a1 += x0.y * w0;
      a2 += x0.z * w0;
      a3 += x0.w * w0;
      a4 += x1.x * w0;
      a5 += x1.y * w0;
      a6 += x1.z * w0;
      a7 += x1.w * w0;
      b0 += x0.x * w1;
      b1 += x0.y * w1;
      b2 += x0.z * w1;
      b3 += x0.w * w1;
      b4 += x1.x * w1;
      b5 += x1.y * w1;
      b6 += x1.z * w1;
      b7 += x1.w * w1;
    }
    workgroupBarrier();
  }
  let m = m0 + local.y * 4u;
  let row = row0 + local.x * 4u;
  finish_four(m, count, row, a0, a1, a2, a3);
  finish_four(m + 32u, count, row, a4, a5, a6, a7);
  finish_four(m, count, row + 32u, b0, b1, b2, b3);
  finish_four(m + 32u, count, row + 32u, b4, b5, b6, b7);
}
