// One token: y = epilogue(W · prologue(x) + bias), rows of W spread over workgroups.
//   prologue: none, or RMSNorm over GROUPS equal groups with weight `norm` (each workgroup computes its own scale: x is small)
//   epilogue: STORE y = v · ADD y += v · MIX y = (1 − α)·y + α·v · SWIGLU y[j] = silu(v[2j]) · v[2j + 1] (rows interleaved)
// A workgroup has SLOTS = WIDTH / LANES slots; a slot owns ROWS consecutive rows, its LANES lanes split the columns.
// With ONLY_SELECTED an unselected token returns before it reads any weight.
struct Params { cols: u32, rows: u32, first_row: u32, eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> bias: array<f32>;            // (all rows) if BIAS
@group(0) @binding(3) var<storage, read> norm: array<vec4<f32>>;      // (cols) if GROUPS > 0
@group(1) @binding(0) var<storage, read> x: array<vec4<f32>>;         // (tokens, cols); the last token's row is read
@group(1) @binding(1) var<storage, read_write> y: array<f32>;         // (1, …) the first row is written
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read> selection: array<u32>;       // if ONLY_SELECTED or MIX

override GROUPS: u32 = 0u;
override BIAS: bool = false;
override EPILOGUE: u32 = 0u;
override ONLY_SELECTED: bool = false;
override LANES: u32 = 16u;
const ROWS = 4u;
const WIDTH = 64u;
const STORE = 0u;
const ADD = 1u;
const MIX = 2u;
const SWIGLU = 3u;
override SCALES: u32 = max(GROUPS, 1u);
override SLOTS: u32 = WIDTH / LANES;

var<workgroup> partial: array<vec4<f32>, WIDTH>;
var<workgroup> square: array<f32, WIDTH>;
var<workgroup> scales: array<f32, SCALES>;

fn norm_scales(base: u32, eights: u32, lane: u32) {
  let size = eights / SCALES; // a fused group is a whole number of eights
  for (var g = 0u; g < SCALES; g += 1u) {
    var sum = 0.0;
    for (var i = lane; i < 2u * size; i += WIDTH) {
      let v = x[base + g * 2u * size + i];
      sum += dot(v, v);
    }
    square[lane] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < WIDTH; i += 1u) { sum += square[i]; }
    if (lane == 0u) { scales[g] = inverseSqrt(sum / f32(params.cols / SCALES) + params.eps); }
    workgroupBarrier();
  }
}

fn finish(row: u32, value: vec4<f32>) {
  for (var r = 0u; r < ROWS; r += 1u) {
    if (row + r >= params.rows) { return; }
    let at = params.first_row + row + r;
    var v = value[r];
    if (BIAS) { v += bias[params.first_row + row + r]; }
    if (EPILOGUE == STORE) {
      y[at] = v;
    } else if (EPILOGUE == ADD) {
      y[at] += v;
    } else {
      let alpha = bitcast<f32>(selection[alpha_at(0u)]);
      y[at] = (1.0 - alpha) * y[at] + alpha * v;
    }
  }
}

fn finish_swiglu(row: u32, value: vec4<f32>) {
  let at = (params.first_row + row) / 2u;
  if (row < params.rows) { y[at] = silu(value.x) * value.y; }
  if (row + 2u < params.rows) { y[at + 1u] = silu(value.z) * value.w; }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  if (ONLY_SELECTED && selection[COUNT] == 0u) { return; }
  let eights = row_stride(params.cols) / 8u;
  let base = (control[TOKENS] - 1u) * eights * 2u;
  if (GROUPS > 0u) { norm_scales(base, eights, lane); }

  let row = ((group.y * groups.x + group.x) * SLOTS + lane / LANES) * ROWS;
  let last = params.rows - 1u;
  var sum = vec4(0.0);
  for (var i = lane % LANES; i < eights; i += LANES) {
    var lo = x[base + 2u * i];
    var hi = x[base + 2u * i + 1u];
    if (GROUPS > 0u) {
      let scale = scales[i / (eights / SCALES)];
      lo *= scale * norm[2u * i];
      hi *= scale * norm[2u * i + 1u];
    }
    for (var r = 0u; r < ROWS; r += 1u) {
      let w = weight8(min(row + r, last) * eights + i);
      sum[r] += dot(w.lo, lo) + dot(w.hi, hi);
    }
  }
  partial[lane] = sum;
  workgroupBarrier();
  if (lane % LANES == 0u) {
    for (var i = 1u; i < LANES; i += 1u) { sum += partial[lane + i]; }
    if (EPILOGUE == SWIGLU) { finish_swiglu(row, sum); } else { finish(row, sum); }
  }
}
