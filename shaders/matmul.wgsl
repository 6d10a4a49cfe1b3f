// Many tokens: y[m, :] = epilogue(x[m, :] · Wᵀ + bias); shared/matmul.wgsl has the epilogues. Tiles of 64 tokens by 128 rows
// of W, 16 columns staged at a time in workgroup memory, an 8 by 8 register tile per invocation, f32 accumulation. What the
// next 16 columns need is asked for before these are multiplied.
const TOKEN_QUADS = 16u; // of a tile: 64 tokens
const ROW_QUADS = 32u;   // 128 rows of W
const STEP = 2u;         // eights of columns staged at a time

var<workgroup> xs: array<vec4<f32>, 256>; // [column][quad of tokens]
var<workgroup> ws: array<vec4<f32>, 512>; // [column][quad of rows]
// Eight tokens by eight rows: sums[2·t + h] is token t of the invocation times four of its rows.
var<private> sums: array<vec4<f32>, 16>;

// Eight columns of one token, from column 8·eight of the step.
fn stage_x(token: u32, eight: u32, v: Eight) {
  let at = 8u * eight * TOKEN_QUADS + token / 4u;
  let t = token % 4u;
  xs[at][t] = v.lo.x;
  xs[at + TOKEN_QUADS][t] = v.lo.y;
  xs[at + 2u * TOKEN_QUADS][t] = v.lo.z;
  xs[at + 3u * TOKEN_QUADS][t] = v.lo.w;
  xs[at + 4u * TOKEN_QUADS][t] = v.hi.x;
  xs[at + 5u * TOKEN_QUADS][t] = v.hi.y;
  xs[at + 6u * TOKEN_QUADS][t] = v.hi.z;
  xs[at + 7u * TOKEN_QUADS][t] = v.hi.w;
}

fn stage_w(row: u32, eight: u32, v: Eight) {
  let at = 8u * eight * ROW_QUADS + row / 4u;
  let r = row % 4u;
  ws[at][r] = v.lo.x;
  ws[at + ROW_QUADS][r] = v.lo.y;
  ws[at + 2u * ROW_QUADS][r] = v.lo.z;
  ws[at + 3u * ROW_QUADS][r] = v.lo.w;
  ws[at + 4u * ROW_QUADS][r] = v.hi.x;
  ws[at + 5u * ROW_QUADS][r] = v.hi.y;
  ws[at + 6u * ROW_QUADS][r] = v.hi.z;
  ws[at + 7u * ROW_QUADS][r] = v.hi.w;
}

// One column: four loads from workgroup memory feed 64 multiply-adds.
fn multiply(column: u32, local: vec3<u32>) {
  let x0 = xs[column * TOKEN_QUADS + local.y];
  let x1 = xs[column * TOKEN_QUADS + local.y + 8u];
  let w0 = ws[column * ROW_QUADS + local.x];
  let w1 = ws[column * ROW_QUADS + local.x + 16u];
  sums[0] += x0.x * w0;
  sums[1] += x0.x * w1;
  sums[2] += x0.y * w0;
  sums[3] += x0.y * w1;
  sums[4] += x0.z * w0;
  sums[5] += x0.z * w1;
  sums[6] += x0.w * w0;
  sums[7] += x0.w * w1;
  sums[8] += x1.x * w0;
  sums[9] += x1.x * w1;
  sums[10] += x1.y * w0;
  sums[11] += x1.y * w1;
  sums[12] += x1.z * w0;
  sums[13] += x1.z * w1;
  sums[14] += x1.w * w0;
  sums[15] += x1.w * w1;
}

// Four tokens, four rows of each.
fn finish_four(m: u32, count: u32, row: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
  if (m < count) { finish(m, row, v0); }
  if (m + 1u < count) { finish(m + 1u, row, v1); }
  if (m + 2u < count) { finish(m + 2u, row, v2); }
  if (m + 3u < count) { finish(m + 3u, row, v3); }
}

@compute @workgroup_size(16, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  let count = token_count();
  let m0 = group.x * 64u;
  let row0 = group.y * 128u;
  if (m0 >= count) { return; }
  let eights = row_stride(params.cols) / 8u;
  // This invocation stages an eight of one token and of two rows.
  let staged = lane / STEP;
  let eight = lane % STEP;
  sums = array<vec4<f32>, 16>();
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
    multiply_all(local);
    workgroupBarrier();
  }
  let m = m0 + 4u * local.y;
  let row = row0 + 4u * local.x;
  finish_four(m, count, row, sums[0], sums[2], sums[4], sums[6]);
  finish_four(m, count, row + 64u, sums[1], sums[3], sums[5], sums[7]);
  finish_four(m + 32u, count, row, sums[8], sums[10], sums[12], sums[14]);
  finish_four(m + 32u, count, row + 64u, sums[9], sums[11], sums[13], sums[15]);
}
