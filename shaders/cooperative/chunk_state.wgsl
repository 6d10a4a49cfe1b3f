enable f16;
enable wgpu_cooperative_matrix;

// `chunk_state` with cooperative matrices, for head_dim and d_state that are multiples of 16: the grid of the plain one. Each of
// four subgroups owns 32 channels by 32 state columns. No more than 16 tokens are staged at a time: workgroup memory decides how
// many workgroups run at once. Weighted x and B go in as two f16 each (shared/halves.wgsl). Weights of a chunk are scaled by a
// power of two so that the largest is between 1 and 2: small step sizes keep their bits.
struct Params { heads: u32, head_dim: u32, groups: u32, d_state: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> xbc: array<vec4<f32>>;      // (tokens, H·P + 2·G·N): x | B | C
@group(1) @binding(1) var<storage, read> da: array<f32>;             // (tokens, 4·H): dt | dA | prefix | suffix
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read_write> states: array<f32>;   // (chunks·H·P, N)

const TILE = 64u;
const STEP = 16u;   // tokens staged at a time
const STRIDE = 18u; // fours from one staged token to the next, two of them against bank conflicts
const EXPONENT = 0x7f800000u;
var<workgroup> weights: array<vec4<f32>, 16>;    // exp(suffix)·dt of the chunk's tokens, and zeros
var<workgroup> x_high: array<vec4<f16>, 288>; // [token][four of channels]
var<workgroup> x_low: array<vec4<f16>, 288>;
var<workgroup> b_high: array<vec4<f16>, 288>; // [token][four of state columns]
var<workgroup> b_low: array<vec4<f16>, 288>;
var<private> c00: coop_mat16x16<f32, C>; // channels, state columns
var<private> c01: coop_mat16x16<f32, C>;
var<private> c10: coop_mat16x16<f32, C>;
var<private> c11: coop_mat16x16<f32, C>;

// Puts a four of x and of B of token t of the chunk: zeros where there is no such token, whatever was read.
fn put(lane: u32, t: u32, length: u32, weight: f32, x: vec4<f32>, b: vec4<f32>) {
  let at = t % STEP * STRIDE + lane % 16u;
  let xs = halves(select(vec4(0.0), weight * x, t < length));
  let bs = halves(select(vec4(0.0), b, t < length));
  x_high[at] = xs.high;
  x_low[at] = xs.low;
  b_high[at] = bs.high;
  b_low[at] = bs.low;
}

// Sixteen tokens: 32 channels from four `m` of x, 32 columns from four `n` of B.
fn multiply(m: u32, n: u32) {
  let bh0 = coopLoadT<coop_mat16x16<f16, B>>(&b_high[n], STRIDE);
  let bl0 = coopLoadT<coop_mat16x16<f16, B>>(&b_low[n], STRIDE);
  let bh1 = coopLoadT<coop_mat16x16<f16, B>>(&b_high[n + 4u], STRIDE);
  let bl1 = coopLoadT<coop_mat16x16<f16, B>>(&b_low[n + 4u], STRIDE);
  let al0 = coopLoad<coop_mat16x16<f16, A>>(&x_low[m], STRIDE);
  c00 = coopMultiplyAdd(al0, bh0, c00);
  c01 = coopMultiplyAdd(al0, bh1, c01);
  let ah0 = coopLoad<coop_mat16x16<f16, A>>(&x_high[m], STRIDE);
  c00 = coopMultiplyAdd(ah0, bl0, c00);
  c01 = coopMultiplyAdd(ah0, bl1, c01);
  c00 = coopMultiplyAdd(ah0, bh0, c00);
  c01 = coopMultiplyAdd(ah0, bh1, c01);
  let al1 = coopLoad<coop_mat16x16<f16, A>>(&x_low[m + 4u], STRIDE);
  c10 = coopMultiplyAdd(al1, bh0, c10);
  c11 = coopMultiplyAdd(al1, bh1, c11);
  let ah1 = coopLoad<coop_mat16x16<f16, A>>(&x_high[m + 4u], STRIDE);
  c10 = coopMultiplyAdd(ah1, bl0, c10);
  c11 = coopMultiplyAdd(ah1, bl1, c11);
  c10 = coopMultiplyAdd(ah1, bh0, c10);
  c11 = coopMultiplyAdd(ah1, bh1, c11);
}

// A block is either inside or not at all.
fn store(block: coop_mat16x16<f32, C>, p: u32, column: u32, at: u32) {
  if (p < params.head_dim && column < params.d_state) { coopStoreT(block, &states[at], row_stride(params.d_state)); }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.z;
  let tiles = (params.d_state + TILE - 1u) / TILE;
  let p0 = group.x / tiles * TILE;
  let n0 = group.x % tiles * TILE;
  let begin = group.y * params.chunk;
  let length = min(params.chunk, control[TOKENS] - begin);
  let inner = params.heads * params.head_dim;
  let b_column = inner + head / (params.heads / params.groups) * params.d_state;
  let row = row_stride(inner + 2u * params.groups * params.d_state) / 4u;
  // This invocation stages a four of x and of B of every eighth token.
  let token = lane / 16u;
  var x_at = (begin + token) * row + (head * params.head_dim + p0) / 4u + lane % 16u;
  var b_at = (begin + token) * row + (b_column + n0) / 4u + lane % 16u;
  var x0 = xbc[x_at];
  var x1 = xbc[x_at + 8u * row];
  var b0 = xbc[b_at];
  var b1 = xbc[b_at + 8u * row];
  if (lane < TILE) {
    let at = (begin + lane) * row_stride(4u * params.heads) + head;
    weights[lane / 4u][lane % 4u] = select(0.0, da[at] * exp(da[at + 3u * params.heads]), lane < length);
  }
  c00 = coop_mat16x16<f32, C>();
  c01 = coop_mat16x16<f32, C>();
  c10 = coop_mat16x16<f32, C>();
  c11 = coop_mat16x16<f32, C>();
  workgroupBarrier();
  var most = weights[0];
  for (var i = 1u; i < 16u; i += 1u) { most = max(most, weights[i]); }
  let exponent = max(bitcast<u32>(max(max(most.x, most.y), max(most.z, most.w))) & EXPONENT, 0x00800000u);
  let scale = bitcast<f32>(0x7f000000u - exponent); // one over the power of two
  let m = lane / 64u * 8u;
  let n = lane / 32u % 2u * 8u;
  for (var t = 0u; t < length; t += STEP) {
    let w = t / 4u + token / 4u;
    put(lane, t + token, length, scale * weights[w][token % 4u], x0, b0);
    put(lane, t + token + 8u, length, scale * weights[w + 2u][token % 4u], x1, b1);
    workgroupBarrier();
    x_at += STEP * row;
    b_at += STEP * row;
    x0 = xbc[x_at];
    x1 = xbc[x_at + 8u * row];
    b0 = xbc[b_at];
    b1 = xbc[b_at + 8u * row];
    multiply(m, n);
    workgroupBarrier();
  }
  let p = p0 + 4u * m;
  let column = n0 + 4u * n;
  let width = row_stride(params.d_state);
  let at = ((group.y * params.heads + head) * params.head_dim + p) * width + column;
  let unscale = bitcast<f32>(exponent);
  store(c00 * unscale, p, column, at);
  store(c01 * unscale, p, column + 16u, at + 16u);
  store(c10 * unscale, p + 16u, column, at + 16u * width);
  store(c11 * unscale, p + 16u, column + 16u, at + 16u * width + 16u);
}
