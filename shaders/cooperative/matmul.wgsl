enable f16;
enable wgpu_cooperative_matrix;

// `matmul` with cooperative matrices: the same tile of 64 tokens by 128 rows of W, formats, switches and grid. Eight
// subgroups of 32 invocations own 32 tokens by 32 rows each, as products of 16 by 16 blocks of f16 summed in f32.
// A number of x goes in as two f16, its leading 11 bits and the rest, so that no more is lost than in f32. W is f16 or bf16:
// as one f16 it keeps all its bits, or is smaller than 2⁻¹⁴. Beyond the range of f16, x at 131 008 and W at 65 504, numbers
// are cut off.
const SIDE = 32u;  // tokens and rows of a subgroup
const STEP = 4u;   // eights of columns staged at a time
const STRIDE = 10u; // fours from one staged row to the next: 8, and 2 against bank conflicts
const MOST = 65504.0; // the largest f16

var<workgroup> x_high: array<vec4<f16>, 640>;  // [token][four of STEP]
var<workgroup> x_low: array<vec4<f16>, 640>;
var<workgroup> ws: array<vec4<f16>, 1280>;     // [row][four of STEP]
var<workgroup> block: array<f32, 2048>;        // a 16 by 16 block of each subgroup
var<private> c00: coop_mat16x16<f32, C>; // tokens, rows
var<private> c01: coop_mat16x16<f32, C>;
var<private> c10: coop_mat16x16<f32, C>;
var<private> c11: coop_mat16x16<f32, C>;

// The leading 11 bits, which f16 holds exactly if they are in its range.
fn high(v: vec4<f32>) -> vec4<f32> {
  return clamp(bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4(0xffffe000u)), vec4(-MOST), vec4(MOST));
}

fn low(v: vec4<f32>, high: vec4<f32>) -> vec4<f16> {
  return vec4<f16>(clamp(v - high, vec4(-MOST), vec4(MOST)));
}

fn stage_x(token: u32, eight: u32, v: Eight) {
  let at = token * STRIDE + 2u * eight;
  let lo = high(v.lo);
  let hi = high(v.hi);
  x_high[at] = vec4<f16>(lo);
  x_high[at + 1u] = vec4<f16>(hi);
  x_low[at] = low(v.lo, lo);
  x_low[at + 1u] = low(v.hi, hi);
}

fn stage_w(row: u32, eight: u32, v: Eight) {
  let at = row * STRIDE + 2u * eight;
  ws[at] = vec4<f16>(clamp(v.lo, vec4(-MOST), vec4(MOST)));
  ws[at + 1u] = vec4<f16>(clamp(v.hi, vec4(-MOST), vec4(MOST)));
}

// Sixteen columns: 32 tokens from four `m` of x, 32 rows from four `n` of W.
fn multiply(m: u32, n: u32) {
  let b0 = coopLoad<coop_mat16x16<f16, B>>(&ws[n], STRIDE);
  let b1 = coopLoad<coop_mat16x16<f16, B>>(&ws[n + 16u * STRIDE], STRIDE);
  let a0 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m], STRIDE);
  let a1 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m + 16u * STRIDE], STRIDE);
  let l0 = coopLoadT<coop_mat16x16<f16, A>>(&x_low[m], STRIDE);
  let l1 = coopLoadT<coop_mat16x16<f16, A>>(&x_low[m + 16u * STRIDE], STRIDE);
  c00 = coopMultiplyAdd(a0, b0, coopMultiplyAdd(l0, b0, c00));
  c01 = coopMultiplyAdd(a0, b1, coopMultiplyAdd(l0, b1, c01));
  c10 = coopMultiplyAdd(a1, b0, coopMultiplyAdd(l1, b0, c10));
  c11 = coopMultiplyAdd(a1, b1, coopMultiplyAdd(l1, b1, c11));
}

// Sixteen rows of y's tile, four numbers to an invocation and round.
fn finish_block(lane: u32, m: u32, count: u32, row: u32) {
  let base = lane / 32u * 256u;
  for (var i = lane % 32u; i < 64u; i += 32u) {
    let at = base + 4u * i;
    if (m + i / 4u < count) {
      finish(m + i / 4u, row + i % 4u * 4u, vec4(block[at], block[at + 1u], block[at + 2u], block[at + 3u]));
    }
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let count = token_count();
  let m0 = group.x * 64u;
  let row0 = group.y * 128u;
  if (m0 >= count) { return; }
  let eights = row_stride(params.cols) / 8u;
  let subgroup = lane / 32u;
  let m = subgroup / 4u * SIDE;
  let n = subgroup % 4u * SIDE;
  // This invocation stages an eight of one token and of two rows.
  let staged = lane / STEP;
  let eight = lane % STEP;
  c00 = coop_mat16x16<f32, C>();
  c01 = coop_mat16x16<f32, C>();
  c10 = coop_mat16x16<f32, C>();
  c11 = coop_mat16x16<f32, C>();
  var next_x = load_x(m0 + staged, count, eight, eights);
  var next_w = load_w(row0 + staged, eight, eights);
  var next_v = load_w(row0 + 64u + staged, eight, eights);
  for (var k = 0u; k < eights; k += STEP) {
    stage_x(staged, eight, next_x);
    stage_w(staged, eight, next_w);
    stage_w(64u + staged, eight, next_v);
    workgroupBarrier();
    next_x = load_x(m0 + staged, count, k + STEP + eight, eights);
    next_w = load_w(row0 + staged, k + STEP + eight, eights);
    next_v = load_w(row0 + 64u + staged, k + STEP + eight, eights);
    multiply(m * STRIDE, n * STRIDE);
    multiply(m * STRIDE + 4u, n * STRIDE + 4u);
    workgroupBarrier();
  }
  let at = subgroup * 256u;
  coopStoreT(c00, &block[at], 16u);
  workgroupBarrier();
  finish_block(lane, m0 + m, count, row0 + n);
  workgroupBarrier();
  coopStoreT(c01, &block[at], 16u);
  workgroupBarrier();
  finish_block(lane, m0 + m, count, row0 + n + 16u);
  workgroupBarrier();
  coopStoreT(c10, &block[at], 16u);
  workgroupBarrier();
  finish_block(lane, m0 + m + 16u, count, row0 + n);
  workgroupBarrier();
  coopStoreT(c11, &block[at], 16u);
  workgroupBarrier();
  finish_block(lane, m0 + m + 16u, count, row0 + n + 16u);
}
