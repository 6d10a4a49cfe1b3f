// What the two forms of `matmul` share: arguments, loads and epilogues. A body owns tiles of 64 tokens by 128 rows of W.
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
fn token_count() -> u32 {
  if (GATHER || SCATTER) { return selection[COUNT]; }
  return min(control[TOKENS] - params.x_first, params.most);
}

fn load_x(m: u32, count: u32, eight: u32, eights: u32) -> Eight {
  if (m >= count || eight >= eights) { return Eight(vec4(0.0), vec4(0.0)); }
  var row = m + params.x_first;
  if (GATHER) { row = selection[index_at(m, params.capacity)]; }
  let at = 2u * (row * eights + eight);
  return Eight(x[at], x[at + 1u]);
}

fn load_w(row: u32, eight: u32, eights: u32) -> Eight {
  if (row >= params.rows || eight >= eights) { return Eight(vec4(0.0), vec4(0.0)); }
  return weight8(row * weight_stride(params.cols) + eight);
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
