enable f16;
enable wgpu_cooperative_matrix;

// `chunk_scan` with cooperative matrices, for head_dim and d_state that are multiples of 16: the grid and the two sums of the
// plain one, 32 columns of the state or tokens j staged at a time. Each of four subgroups owns 32 tokens by 32 channels. Both
// sides go in as two f16 (shared/halves.wgsl), the left one times LARGER, since decays and step sizes make it small; D is added
// to the weights of i = j.
struct Params { heads: u32, head_dim: u32, groups: u32, d_state: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> per_head: array<f32>;       // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) var<storage, read> xbc: array<vec4<f32>>;      // (tokens, H·P + 2·G·N): x | B | C
@group(1) @binding(1) var<storage, read> da: array<f32>;             // (tokens, 4·H): dt | dA | prefix | suffix
@group(1) @binding(2) var<storage, read> cb: array<vec4<f32>>;       // (chunks·G·chunk, chunk)
@group(1) @binding(3) var<storage, read> states: array<vec4<f32>>;   // (chunks·H·P, N): the state at each chunk's start
@group(1) @binding(4) var<storage, read> control: array<u32>;
@group(1) @binding(5) var<storage, read_write> y: array<f32>;        // (tokens, H·P)

const TILE = 64u;
const STEP = 32u;
const NARROW = 10u; // fours from one staged row of steps to the next, two of them against bank conflicts
const WIDE = 18u;   // from one staged token j to the next
const LARGER = 16.0;
var<workgroup> l_high: array<vec4<f16>, 640>; // [token i][four of steps]
var<workgroup> l_low: array<vec4<f16>, 640>;
var<workgroup> r_high: array<vec4<f16>, 640>; // [channel][four of state columns], then [token j][four of channels]
var<workgroup> r_low: array<vec4<f16>, 640>;
var<workgroup> block: array<f32, 256>;        // 16 by 16
var<private> c00: coop_mat16x16<f32, C>;      // tokens, channels
var<private> c01: coop_mat16x16<f32, C>;
var<private> c10: coop_mat16x16<f32, C>;
var<private> c11: coop_mat16x16<f32, C>;
var<private> head: u32;
var<private> begin: u32;  // of the chunk
var<private> length: u32; // of the chunk
var<private> p0: u32;     // first channel of the tile

struct Four { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }
struct Next { left: Four, right: Four } // as loaded: whatever is done to them waits for them

// In fours.
fn inner() -> u32 { return params.heads * params.head_dim / 4u; }
fn stride() -> u32 { return row_stride(4u * inner() + 2u * params.groups * params.d_state) / 4u; }
fn group() -> u32 { return head / (params.heads / params.groups); }

// A four of C from column n0 on for every sixteenth token, and of the states of as many channels.
fn load_states(lane: u32, chunk: u32, n0: u32) -> Next {
  let n = n0 / 4u + lane % 8u;
  let row = 16u * stride();
  let c = (begin + lane / 8u) * stride() + inner() + (params.groups + group()) * params.d_state / 4u + n;
  let width = row_stride(params.d_state) / 4u;
  let s = ((chunk * params.heads + head) * params.head_dim + p0 + lane / 8u) * width + n;
  let right = Four(states[s], states[s + 16u * width], states[s + 32u * width], states[s + 48u * width]);
  return Next(Four(xbc[c], xbc[c + row], xbc[c + 2u * row], xbc[c + 3u * row]), right);
}

// Of the tokens j0 … j0 + 31: twice eight of C_i·B_j for one row i, and a four of channels of every eighth.
fn load_tokens(lane: u32, chunk: u32, j0: u32) -> Next {
  let at = ((chunk * params.groups + group()) * params.chunk + lane / 2u) * (row_stride(params.chunk) / 4u) + j0 / 4u + lane % 2u * 2u;
  let row = 8u * stride();
  let x = (begin + j0 + lane / 16u) * stride() + (head * params.head_dim + p0) / 4u + lane % 16u;
  let right = Four(xbc[x], xbc[x + row], xbc[x + 2u * row], xbc[x + 3u * row]);
  return Next(Four(cb[at], cb[at + 1u], cb[at + 4u], cb[at + 5u]), right);
}

fn put_left(at: u32, v: vec4<f32>) {
  let h = halves(LARGER * v);
  l_high[at] = h.high;
  l_low[at] = h.low;
}

fn put_right(at: u32, v: vec4<f32>) {
  let h = halves(v);
  r_high[at] = h.high;
  r_low[at] = h.low;
}

// Puts a four of C from column n on, times exp(prefix) of its token: zeros where there is no such token or column.
fn put_c(at: u32, i: u32, n: u32, c: vec4<f32>) {
  put_left(at, select(vec4(0.0), decayed[i] * c, i < length && n < params.d_state));
}

// Puts 32 columns of C and of the states.
fn put_states(lane: u32, n0: u32, next: Next) {
  let i = lane / 8u;
  let n = n0 + lane % 8u * 4u;
  let at = i * NARROW + lane % 8u;
  put_c(at, i, n, next.left.a);
  put_c(at + 16u * NARROW, i + 16u, n, next.left.b);
  put_c(at + 32u * NARROW, i + 32u, n, next.left.c);
  put_c(at + 48u * NARROW, i + 48u, n, next.left.d);
  put_right(at, next.right.a);
  put_right(at + 16u * NARROW, next.right.b);
  put_right(at + 32u * NARROW, next.right.c);
  put_right(at + 48u * NARROW, next.right.d);
}

// Puts this invocation's weights of tokens j0 … j0 + 15; `tail` is Σ dA over the tokens after them up to i and comes back with
// them in it.
fn put_weights(lane: u32, at: u32, j0: u32, tail: f32, lo: vec4<f32>, hi: vec4<f32>, d: f32) -> f32 {
  let i = lane / 2u;
  let half = half_of(i, j0, lane % 2u == 1u, tail);
  let j = 4u * half.quad + vec4(0u, 1u, 2u, 3u);
  let own_lo = select(vec4(0.0), vec4(d), j == vec4(i));
  let own_hi = select(vec4(0.0), vec4(d), j + 4u == vec4(i));
  let m = Eight(half.weights.lo * lo + own_lo, half.weights.hi * hi + own_hi);
  let inside = only(select(0u, count_to(i + 1u, 4u * half.quad, 1u), i < length), m);
  put_left(at, inside.lo);
  put_left(at + 1u, inside.hi);
  return half.tail;
}

fn put_x(lane: u32, j: u32, j0: u32, x: vec4<f32>) {
  put_right(j * WIDE + lane % 16u, select(vec4(0.0), x, j0 + j < length));
}

// Puts tokens j0 … j0 + 31, the later half first.
fn put_tokens(lane: u32, j0: u32, tail: f32, next: Next, d: f32) -> f32 {
  let at = lane / 2u * NARROW + lane % 2u * 2u;
  let middle = put_weights(lane, at + 4u, j0 + 16u, tail, next.left.c, next.left.d, d);
  let j = lane / 16u;
  put_x(lane, j, j0, next.right.a);
  put_x(lane, j + 8u, j0, next.right.b);
  put_x(lane, j + 16u, j0, next.right.c);
  put_x(lane, j + 24u, j0, next.right.d);
  return put_weights(lane, at, j0, middle, next.left.a, next.left.b, d);
}

// Sixteen columns of the state: 32 tokens from four `l`, 32 channels from four `r`.
fn multiply_states(l: u32, r: u32) {
  let bh0 = coopLoad<coop_mat16x16<f16, B>>(&r_high[r], NARROW);
  let bl0 = coopLoad<coop_mat16x16<f16, B>>(&r_low[r], NARROW);
  let bh1 = coopLoad<coop_mat16x16<f16, B>>(&r_high[r + 16u * NARROW], NARROW);
  let bl1 = coopLoad<coop_mat16x16<f16, B>>(&r_low[r + 16u * NARROW], NARROW);
  let al0 = coopLoadT<coop_mat16x16<f16, A>>(&l_low[l], NARROW);
  c00 = coopMultiplyAdd(al0, bh0, c00);
  c01 = coopMultiplyAdd(al0, bh1, c01);
  let ah0 = coopLoadT<coop_mat16x16<f16, A>>(&l_high[l], NARROW);
  c00 = coopMultiplyAdd(ah0, bl0, c00);
  c01 = coopMultiplyAdd(ah0, bl1, c01);
  c00 = coopMultiplyAdd(ah0, bh0, c00);
  c01 = coopMultiplyAdd(ah0, bh1, c01);
  let al1 = coopLoadT<coop_mat16x16<f16, A>>(&l_low[l + 16u * NARROW], NARROW);
  c10 = coopMultiplyAdd(al1, bh0, c10);
  c11 = coopMultiplyAdd(al1, bh1, c11);
  let ah1 = coopLoadT<coop_mat16x16<f16, A>>(&l_high[l + 16u * NARROW], NARROW);
  c10 = coopMultiplyAdd(ah1, bl0, c10);
  c11 = coopMultiplyAdd(ah1, bl1, c11);
  c10 = coopMultiplyAdd(ah1, bh0, c10);
  c11 = coopMultiplyAdd(ah1, bh1, c11);
}

// Sixteen tokens j.
fn multiply_tokens(l: u32, r: u32) {
  let bh0 = coopLoadT<coop_mat16x16<f16, B>>(&r_high[r], WIDE);
  let bl0 = coopLoadT<coop_mat16x16<f16, B>>(&r_low[r], WIDE);
  let bh1 = coopLoadT<coop_mat16x16<f16, B>>(&r_high[r + 4u], WIDE);
  let bl1 = coopLoadT<coop_mat16x16<f16, B>>(&r_low[r + 4u], WIDE);
  let al0 = coopLoadT<coop_mat16x16<f16, A>>(&l_low[l], NARROW);
  c00 = coopMultiplyAdd(al0, bh0, c00);
  c01 = coopMultiplyAdd(al0, bh1, c01);
  let ah0 = coopLoadT<coop_mat16x16<f16, A>>(&l_high[l], NARROW);
  c00 = coopMultiplyAdd(ah0, bl0, c00);
  c01 = coopMultiplyAdd(ah0, bl1, c01);
  c00 = coopMultiplyAdd(ah0, bh0, c00);
  c01 = coopMultiplyAdd(ah0, bh1, c01);
  let al1 = coopLoadT<coop_mat16x16<f16, A>>(&l_low[l + 16u * NARROW], NARROW);
  c10 = coopMultiplyAdd(al1, bh0, c10);
  c11 = coopMultiplyAdd(al1, bh1, c11);
  let ah1 = coopLoadT<coop_mat16x16<f16, A>>(&l_high[l + 16u * NARROW], NARROW);
  c10 = coopMultiplyAdd(ah1, bl0, c10);
  c11 = coopMultiplyAdd(ah1, bl1, c11);
  c10 = coopMultiplyAdd(ah1, bh0, c10);
  c11 = coopMultiplyAdd(ah1, bh1, c11);
}

// A block of y that is inside or not at all.
fn store(sums: coop_mat16x16<f32, C>, i: u32, p: u32) {
  let width = row_stride(4u * inner());
  let at = (begin + i) * width + head * params.head_dim + p0 + p;
  if (i < length && p0 + p < params.head_dim) { coopStoreT(sums, &y[at], width); }
}

// A block of one subgroup of which some rows may be outside.
fn store_rows(lane: u32, own: bool, sums: coop_mat16x16<f32, C>, i: u32, p: u32) {
  if (own) { coopStoreT(sums, &block[0], 16u); }
  workgroupBarrier();
  for (var at = lane % 32u; own && at < 256u; at += 32u) {
    let row = i + at / 16u;
    let channel = p0 + p + at % 16u;
    if (row < length && channel < params.head_dim) {
      y[(begin + row) * row_stride(4u * inner()) + head * params.head_dim + channel] = block[at];
    }
  }
  workgroupBarrier();
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  head = id.z;
  p0 = id.x * TILE;
  let first = id.y * params.chunk;
  let tokens = min(params.chunk, control[TOKENS] - first);
  begin = first;
  length = tokens;
  let steps = (tokens + STEP - 1u) / STEP;
  var next = load_states(lane, id.y, 0u);
  var last = load_tokens(lane, id.y, (steps - 1u) * STEP);
  if (lane < TILE) { put_decays(lane, (begin + lane) * row_stride(4u * params.heads) + head, params.heads, lane < length); }
  let d = per_head[2u * params.heads + head];
  let m = lane / 64u * 32u;
  let n = lane / 32u % 2u * 32u;
  c00 = coop_mat16x16<f32, C>();
  c01 = coop_mat16x16<f32, C>();
  c10 = coop_mat16x16<f32, C>();
  c11 = coop_mat16x16<f32, C>();
  workgroupBarrier();
  for (var column = 0u; column < params.d_state; column += STEP) {
    put_states(lane, column, next);
    workgroupBarrier();
    next = load_states(lane, id.y, column + STEP);
    multiply_states(m * NARROW, n * NARROW);
    multiply_states(m * NARROW + 4u, n * NARROW + 4u);
    workgroupBarrier();
  }
  var tail = 0.0;
  for (var step = steps; step > 0u; step -= 1u) {
    tail = put_tokens(lane, (step - 1u) * STEP, tail, last, d);
    workgroupBarrier();
    last = load_tokens(lane, id.y, (max(step, 2u) - 2u) * STEP);
    multiply_tokens(m * NARROW, n / 4u);
    multiply_tokens(m * NARROW + 4u, n / 4u + 16u * WIDE);
    workgroupBarrier();
  }
  c00 = c00 * (1.0 / LARGER);
  c01 = c01 * (1.0 / LARGER);
  c10 = c10 * (1.0 / LARGER);
  c11 = c11 * (1.0 / LARGER);
  if (tokens % 16u == 0u) {
    store(c00, m, n);
    store(c01, m, n + 16u);
    store(c10, m + 16u, n);
    store(c11, m + 16u, n + 16u);
  } else {
    for (var subgroup = 0u; subgroup < 4u; subgroup += 1u) {
      let own = lane / 32u == subgroup;
      store_rows(lane, own, c00, m, n);
      store_rows(lane, own, c01, m, n + 16u);
      store_rows(lane, own, c10, m + 16u, n);
      store_rows(lane, own, c11, m + 16u, n + 16u);
    }
  }
}
