// One token: y = epilogue(W · prologue(x) + bias), rows of W spread over workgroups.
//   prologue: none, or RMSNorm over GROUPS equal groups with weight `norm`. With one group a slot sums the squares of x while
//             it reads x for the product and scales the result. With several, each workgroup computes the scales first (x is
//             small); with RAGGED a group is not a whole number of eights, so each column looks its group up
//   epilogue: STORE y = v · ADD y += scale·v · MIX y = (1 − α)·y + α·v · RELU2 y = max(v, 0)²
//             SWIGLU y[j] = silu(scale·v[2j]) · v[2j + 1] (rows interleaved)
// A workgroup has SLOTS = WIDTH / LANES slots; a slot owns two consecutive rows, its LANES lanes split the columns and take
// four eights of each row at a time. With EIGHT a slot has eight rows and takes an eight of each, so that what is read of x
// and norm feeds four times as many products.
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
override ROWS: u32 = select(2u, 8u, EIGHT);
override WIDTH: u32 = 128u; // 8 or more
const STORE = 0u;
const ADD = 1u;
const MIX = 2u;
const SWIGLU = 3u;
const RELU2 = 4u;
override SCALES: u32 = max(GROUPS, 1u);
override SLOTS: u32 = WIDTH / LANES;

override HEADS: u32 = min(8u, LANES); // lanes that sum for their slot first
override MORE: u32 = select(1u, WIDTH, EIGHT);
var<workgroup> partial: array<vec4<f32>, WIDTH>;
var<workgroup> partial_more: array<vec4<f32>, MORE>;
var<workgroup> square: array<f32, WIDTH>;
var<workgroup> scales: array<f32, SCALES>;

// Sums of this lane: of the two rows in x and y, or of four and four; and of the squares of x.
var<private> sum: vec4<f32>;
var<private> more: vec4<f32>;
var<private> squares: f32;

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
  if (lane < 8u) { // eight sums
    var sum = 0.0;
    for (var i = lane; i < WIDTH; i += 8u) { sum += square[i]; }
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

fn finish_row(row: u32, value: f32) {
  if (row >= params.rows) { return; }
  let at = params.first_row + row;
  var v = value;
  if (BIAS) { v += bias[at]; }
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

fn finish_two(row: u32, value: vec2<f32>) {
  if (EPILOGUE == SWIGLU) {
    finish_pair(row, value);
  } else {
    finish_row(row, value.x);
    finish_row(row + 1u, value.y);
  }
}

fn finish_pair(row: u32, value: vec2<f32>) {
  if (row >= params.rows) { return; }
  let at = params.first_row + row;
  var v = value;
  if (BIAS) { v += vec2(bias[at], bias[at + 1u]); }
  y[at / 2u] = silu(params.scale * v.x) * v.y;
}

// Two rows, or eight, each times x, from the first eight of this lane on. All that memory has to give is asked for before
// any of it is used.
fn two_rows(row: u32, base: u32, eights: u32, first: u32) {
  let stride = weight_stride(params.cols);
  let last = params.rows - 1u;
  // The last rows of a matrix that is not a multiple of ROWS are computed again rather than read past the end.
  let r0 = min(row, last) * stride;
  let r1 = min(row + 1u, last) * stride;
  for (var i = first; i < eights; i += 4u * LANES) {
    let j = min(vec3(i) + vec3(1u, 2u, 3u) * LANES, vec3(eights - 1u));
    let a0 = stored8(r0 + i);
    let b0 = stored8(r1 + i);
    let a1 = stored8(r0 + j.x);
    let b1 = stored8(r1 + j.x);
    let a2 = stored8(r0 + j.y);
    let b2 = stored8(r1 + j.y);
    let a3 = stored8(r0 + j.z);
    let b3 = stored8(r1 + j.z);
    add_two(a0, b0, r0 + i, r1 + i, input(base, i, eights));
    if (i + LANES < eights) { add_two(a1, b1, r0 + j.x, r1 + j.x, input(base, j.x, eights)); }
    if (i + 2u * LANES < eights) { add_two(a2, b2, r0 + j.y, r1 + j.y, input(base, j.y, eights)); }
    if (i + 3u * LANES < eights) { add_two(a3, b3, r0 + j.z, r1 + j.z, input(base, j.z, eights)); }
  }
}

fn add_two(a: Stored, b: Stored, a_at: u32, b_at: u32, x: Eight) {
  sum.x += dot8(a, a_at, x.lo, x.hi);
  sum.y += dot8(b, b_at, x.lo, x.hi);
}

fn eight_rows(row: u32, base: u32, eights: u32, first: u32) {
  let stride = weight_stride(params.cols);
  let last = params.rows - 1u;
  let r0 = min(row, last) * stride;
  let r1 = min(row + 1u, last) * stride;
  let r2 = min(row + 2u, last) * stride;
  let r3 = min(row + 3u, last) * stride;
  let r4 = min(row + 4u, last) * stride;
  let r5 = min(row + 5u, last) * stride;
  let r6 = min(row + 6u, last) * stride;
  let r7 = min(row + 7u, last) * stride;
  for (var i = first; i < eights; i += LANES) {
    let w0 = stored8(r0 + i);
    let w1 = stored8(r1 + i);
    let w2 = stored8(r2 + i);
    let w3 = stored8(r3 + i);
    let w4 = stored8(r4 + i);
    let w5 = stored8(r5 + i);
    let w6 = stored8(r6 + i);
    let w7 = stored8(r7 + i);
    let x = input(base, i, eights);
    sum += vec4(dot8(w0, r0 + i, x.lo, x.hi), dot8(w1, r1 + i, x.lo, x.hi),
                dot8(w2, r2 + i, x.lo, x.hi), dot8(w3, r3 + i, x.lo, x.hi));
    more += vec4(dot8(w4, r4 + i, x.lo, x.hi), dot8(w5, r5 + i, x.lo, x.hi),
                 dot8(w6, r6 + i, x.lo, x.hi), dot8(w7, r7 + i, x.lo, x.hi));
  }
}

// An eight of x, normed but for the scale of the only group; its squares are counted.
fn input(base: u32, i: u32, eights: u32) -> Eight {
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
  return Eight(lo, hi);
}

// What lane `other` has summed.
fn take(other: u32) {
  sum += partial[other];
  if (EIGHT) {
    more += partial_more[other];
    if (GROUPS == 1u) { squares += square[other]; }
  }
}

fn give(lane: u32) {
  partial[lane] = sum;
  if (EIGHT) {
    partial_more[lane] = more;
    if (GROUPS == 1u) { square[lane] = squares; }
  }
}

// Sums over the lanes of a slot, times the scale of the only group; right in its first lane.
fn sum_slot(lane: u32) {
  let first = lane - lane % LANES;
  if (!EIGHT) { sum.z = squares; } // one sum less
  if (LANES == 1u) { // nothing to add
  } else if (LANES <= SUBGROUP) { // no need of workgroup memory
    sum = subgroup_sum_by(sum, LANES, HEADS);
    if (EIGHT) {
      more = subgroup_sum_by(more, LANES, HEADS);
      squares = subgroup_sum_by(vec4(squares), LANES, HEADS).x;
    }
  } else {
    give(lane);
    workgroupBarrier();
    if (lane % LANES < HEADS) {
      for (var i = lane + HEADS; i < first + LANES; i += HEADS) { take(i); }
      give(lane);
    }
    workgroupBarrier();
    if (lane == first) {
      for (var i = 1u; i < HEADS; i += 1u) { take(lane + i); }
    }
  }
  if (lane == first && GROUPS == 1u) {
    let total = select(sum.z, squares, EIGHT);
    let scale = inverseSqrt(total / f32(params.cols) + params.eps);
    sum *= scale;
    more *= scale;
  }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  if (ONLY_SELECTED && selection[COUNT] == 0u) { return; }
  let eights = row_stride(params.cols) / 8u;
  let base = (control[TOKENS] - 1u) * eights * 2u;
  if (GROUPS > 1u) { norm_scales(base, eights, lane); }
  let row = ((group.y * groups.x + group.x) * SLOTS + lane / LANES) * ROWS;
  sum = vec4(0.0);
  more = vec4(0.0);
  squares = 0.0;
  if (EIGHT) {
    eight_rows(row, base, eights, lane % LANES);
  } else {
    two_rows(row, base, eights, lane % LANES);
  }
  sum_slot(lane);
  if (lane % LANES != 0u) { return; }
  finish_two(row, sum.xy);
  if (EIGHT) {
    finish_two(row + 2u, sum.zw);
    finish_two(row + 4u, more.xy);
    finish_two(row + 6u, more.zw);
  }
}
