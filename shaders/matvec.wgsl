// One token: y = epilogue(W · prologue(x) + bias), rows of W spread over workgroups.
//   prologue: none, or RMSNorm over GROUPS equal groups with weight `norm`. With one group a slot sums the squares of x while
//             it reads x for the product and scales the result. With several, each workgroup computes the scales first (x is
//             small); with RAGGED a group is not a whole number of eights, so each column looks its group up
//   epilogue: STORE y = v · ADD y += scale·v · MIX y = (1 − α)·y + α·v · RELU2 y = max(v, 0)²
//             SWIGLU y[j] = silu(scale·v[2j]) · v[2j + 1] (rows interleaved)
// A workgroup has SLOTS = WIDTH / LANES slots; a slot owns ROWS consecutive rows, its LANES lanes split the columns. With
// EIGHT a slot has eight rows, so that what is read of x and norm feeds twice as many products.
// With ONLY_SELECTED an unselected token returns before it reads any weight.
struct Params { cols: u32, rows: u32, first_row: u32, eps: f32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> bias: array<f32>;            // (all rows) if BIAS
@group(0) @binding(3) var<storage, read> norm: array<vec4<f32>>;      // (cols) if GROUPS > 0
@group(1) @binding(0) var<storage, read> x: array<vec4<f32>>;         // (tokens, cols); the last token's row is read
@group(1) @binding(1) var<storage, read_write> y: array<f32>;         // (1, …) the first row is written
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read> selection: array<u32>;       // if ONLY_SELECTED or MIX

override GROUPS: u32 = 0u;
override RAGGED: bool = false;
override BIAS: bool = false;
override EPILOGUE: u32 = 0u;
override ONLY_SELECTED: bool = false;
override LANES: u32 = 16u;
override EIGHT: bool = false;
override ROWS: u32 = select(4u, 8u, EIGHT);
const WIDTH = 64u;
const STORE = 0u;
const ADD = 1u;
const MIX = 2u;
const SWIGLU = 3u;
const RELU2 = 4u;
override SCALES: u32 = max(GROUPS, 1u);
override SLOTS: u32 = WIDTH / LANES;

override PARTIALS: u32 = select(WIDTH, 2u * WIDTH, EIGHT);
var<workgroup> partial: array<vec4<f32>, PARTIALS>;
var<workgroup> square: array<f32, WIDTH>;
var<workgroup> scales: array<f32, SCALES>;

// This lane's share of the squares of group `g`.
fn square_sum(base: u32, g: u32, eights: u32, lane: u32) -> f32 {
  var sum = 0.0;
  if (RAGGED) {
    let size = params.cols / SCALES;
    for (var i = g * size + lane; i < (g + 1u) * size; i += WIDTH) {
      let v = x[base + i / 4u][i % 4u];
      sum += v * v;
    }
  } else {
    let fours = 2u * (eights / SCALES);
    for (var i = lane; i < fours; i += WIDTH) {
      let v = x[base + g * fours + i];
      sum += dot(v, v);
    }
  }
  return sum;
}

// Scale of group `g`; every invocation comes back with it.
fn norm_scale(base: u32, g: u32, eights: u32, lane: u32) -> f32 {
  square[lane] = square_sum(base, g, eights, lane);
  workgroupBarrier();
  if (lane < 8u) { // eight sums of eight
    var sum = 0.0;
    for (var i = 0u; i < 8u; i += 1u) { sum += square[lane + 8u * i]; }
    square[lane] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 8u; i += 1u) { sum += square[i]; }
  return inverseSqrt(sum / f32(params.cols / SCALES) + params.eps);
}

fn norm_scales(base: u32, eights: u32, lane: u32) {
  for (var g = 0u; g < SCALES; g += 1u) {
    let scale = norm_scale(base, g, eights, lane);
    if (lane == 0u) { scales[g] = scale; }
    workgroupBarrier();
  }
}

// Scales of the columns 4·four … 4·four + 3. The columns that pad a row are zero, so any scale will do for them.
fn scale_of(four: u32, eights: u32) -> vec4<f32> {
  if (RAGGED) {
    let g = min((vec4(4u * four) + vec4(0u, 1u, 2u, 3u)) / (params.cols / SCALES), vec4(SCALES - 1u));
    return vec4(scales[g.x], scales[g.y], scales[g.z], scales[g.w]);
  }
  return vec4(scales[four / (2u * (eights / SCALES))]);
}

// Four rows of the result.
fn finish(row: u32, value: vec4<f32>) {
  for (var r = 0u; r < 4u && row + r < params.rows; r += 1u) {
    let at = params.first_row + row + r;
    var v = value[r];
    if (BIAS) { v += bias[params.first_row + row + r]; }
    if (EPILOGUE == STORE) {
      y[at] = v;
    } else if (EPILOGUE == ADD) {
      y[at] += params.scale * v;
    } else if (EPILOGUE == RELU2) {
      y[at] = max(v, 0.0) * max(v, 0.0);
    } else {
      let alpha = bitcast<f32>(selection[alpha_at(0u)]);
      y[at] = (1.0 - alpha) * y[at] + alpha * v;
    }
  }
}

fn finish_pair(row: u32, value: vec2<f32>) {
  if (row >= params.rows) { return; }
  let at = params.first_row + row;
  var v = value;
  if (BIAS) { v += vec2(bias[at], bias[at + 1u]); }
  y[at / 2u] = silu(params.scale * v.x) * v.y;
}

fn finish_swiglu(row: u32, value: vec4<f32>) {
  finish_pair(row, value.xy);
  finish_pair(row + 2u, value.zw);
}

fn finish_four(row: u32, value: vec4<f32>) {
  if (EPILOGUE == SWIGLU) { finish_swiglu(row, value); } else { finish(row, value); }
}

// Sums over the lanes of a slot, of `sum` (first) and of `more` (second), times the scale of the only group. What its first
// lane returns is right.
fn slot_sums(lane: u32, sum: vec4<f32>, more: vec4<f32>, squares: f32) -> array<vec4<f32>, 2> {
  var first = sum;
  var second = more;
  var total = squares;
  if (LANES <= SUBGROUP) { // no need of workgroup memory
    first = subgroup_sum(first, LANES);
    if (EIGHT) { second = subgroup_sum(second, LANES); }
    if (GROUPS == 1u) { total = subgroup_sum(vec4(total), LANES).x; }
  } else {
    partial[lane] = first;
    if (EIGHT) { partial[WIDTH + lane] = second; }
    if (GROUPS == 1u) { square[lane] = total; }
    workgroupBarrier();
    if (lane % 4u == 0u) { // fours, then fours of them
      first += partial[lane + 1u] + partial[lane + 2u] + partial[lane + 3u];
      partial[lane] = first;
      if (EIGHT) {
        second += partial[WIDTH + lane + 1u] + partial[WIDTH + lane + 2u] + partial[WIDTH + lane + 3u];
        partial[WIDTH + lane] = second;
      }
      if (GROUPS == 1u) {
        total += square[lane + 1u] + square[lane + 2u] + square[lane + 3u];
        square[lane] = total;
      }
    }
    workgroupBarrier();
    if (lane % LANES == 0u) {
      for (var i = 4u; i < LANES; i += 4u) {
        first += partial[lane + i];
        if (EIGHT) { second += partial[WIDTH + lane + i]; }
        if (GROUPS == 1u) { total += square[lane + i]; }
      }
    }
  }
  var scale = 1.0;
  if (GROUPS == 1u) { scale = inverseSqrt(total / f32(params.cols) + params.eps); }
  return array(scale * first, scale * second);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  if (ONLY_SELECTED && selection[COUNT] == 0u) { return; }
  let eights = row_stride(params.cols) / 8u;
  let base = (control[TOKENS] - 1u) * eights * 2u;
  if (GROUPS > 1u) { norm_scales(base, eights, lane); }

  let row = ((group.y * groups.x + group.x) * SLOTS + lane / LANES) * ROWS;
  let last = params.rows - 1u;
  let stride = weight_stride(params.cols);
  // The last rows of a matrix that is not a multiple of ROWS are computed again rather than read past the end.
  let r0 = min(row, last) * stride;
  let r1 = min(row + 1u, last) * stride;
  let r2 = min(row + 2u, last) * stride;
  let r3 = min(row + 3u, last) * stride;
  let r4 = min(row + 4u, last) * stride;
  let r5 = min(row + 5u, last) * stride;
  let r6 = min(row + 6u, last) * stride;
  let r7 = min(row + 7u, last) * stride;
  var sum = vec4(0.0);
  var more = vec4(0.0);
  var squares = 0.0;
  for (var i = lane % LANES; i < eights; i += LANES) {
    // All that memory has to give is asked for before any of it is used.
    let w0 = stored8(r0 + i);
    let w1 = stored8(r1 + i);
    let w2 = stored8(r2 + i);
    let w3 = stored8(r3 + i);
    var w4 = w0;
    var w5 = w0;
    var w6 = w0;
    var w7 = w0;
    if (EIGHT) {
      w4 = stored8(r4 + i);
      w5 = stored8(r5 + i);
      w6 = stored8(r6 + i);
      w7 = stored8(r7 + i);
    }
    var lo = x[base + 2u * i];
    var hi = x[base + 2u * i + 1u];
    if (GROUPS == 1u) { squares += dot(lo, lo) + dot(hi, hi); }
    if (GROUPS > 1u) {
      lo *= scale_of(2u * i, eights);
      hi *= scale_of(2u * i + 1u, eights);
    }
    if (GROUPS > 0u) {
      lo *= norm[2u * i];
      hi *= norm[2u * i + 1u];
    }
    sum += vec4(dot8(w0, r0 + i, lo, hi), dot8(w1, r1 + i, lo, hi), dot8(w2, r2 + i, lo, hi), dot8(w3, r3 + i, lo, hi));
    if (EIGHT) {
      more += vec4(dot8(w4, r4 + i, lo, hi), dot8(w5, r5 + i, lo, hi), dot8(w6, r6 + i, lo, hi), dot8(w7, r7 + i, lo, hi));
    }
  }
  let sums = slot_sums(lane, sum, more, squares);
  if (lane % LANES != 0u) { return; }
  finish_four(row, sums[0]);
  if (EIGHT) { finish_four(row + 4u, sums[1]); }
}
