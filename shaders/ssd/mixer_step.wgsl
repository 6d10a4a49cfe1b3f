// One token through a whole Mamba-2 block in one dispatch (arXiv 2405.21060, the recurrent form): `matvec`, `mixer_update` and
// `matvec`, x ← x + scale · out_proj(RMSNorm(mixer(in_proj(RMSNorm(x))))), for one group of B and C, 128 states, four taps.
//
// Twice a workgroup needs what all the others have computed, and waits for it: all of them must run at the same time. WGSL
// promises no such thing, so a host tries before it relies on it, nobody waits longer than `patience`, and who gives up
// says so in `sync` and leaves no number in x. What workgroups tell each other goes through buffers that are coherent.
//
// WIDTH lanes hold an eight of x each; a workgroup has every WORKGROUPS'th row of both matrices. Weights are asked for three
// quads ahead: four rows of in_proj, then two rows of out_proj, twice as long.
struct Params {
  eps: f32, gated_eps: f32, scale: f32, z_scale: f32, dt_scale: f32, dt_min: f32, dt_max: f32, patience: u32, dry: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> out_weight: array<vec4<u32>>;       // (DIM, INNER), in the format of in_proj
@group(0) @binding(3) var<storage, read> norm: array<vec4<f32>>;             // (DIM)
@group(0) @binding(4) var<storage, read> gated_norm: array<vec4<f32>>;       // (INNER)
@group(0) @binding(5) var<storage, read> conv: array<f32>;                   // weight (CHANNELS, TAPS), then bias (CHANNELS)
@group(0) @binding(6) var<storage, read> per_head: array<f32>;               // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) var<storage, read> control: array<u32>;
@group(1) @binding(1) var<storage, read_write> x: array<vec4<f32>>;          // (1, DIM)
@group(1) @binding(2) @coherent var<storage, read_write> projected: array<f32>; // (1, ROWS): z | x | B | C | dt
@group(1) @binding(3) var<storage, read_write> conv_state: array<f32>;       // (TAPS, CHANNELS)
@group(1) @binding(4) var<storage, read_write> ssm: array<vec4<f32>>;        // (INNER, N)
@group(1) @binding(5) @coherent var<storage, read_write> y: array<vec4<f32>>; // (1, INNER)
@group(1) @binding(6) var<storage, read_write> sync: array<atomic<u32>>;

override WIDTH: u32 = 32u;
override WORKGROUPS: u32 = 1u;
override HEADS: u32 = 1u;
override HEAD_DIM: u32 = 64u;
const FOURS = 32u; // of a row of the state
const TAPS = 4u;
const BC = 256u; // channels of B and C
override DIM: u32 = 8u * WIDTH;
override INNER: u32 = 16u * WIDTH;
override CHANNELS: u32 = INNER + BC;
override ROWS: u32 = INNER + CHANNELS + HEADS;
override IN_ROWS: u32 = (ROWS + WORKGROUPS - 1u) / WORKGROUPS; // of a workgroup
override IN_QUADS: u32 = (IN_ROWS + 3u) / 4u;
override IN_STEPS: u32 = (IN_QUADS + 2u) / 3u;
override OUT_ROWS: u32 = (DIM + WORKGROUPS - 1u) / WORKGROUPS;
override OUT_QUADS: u32 = (OUT_ROWS + 1u) / 2u;
override SUBGROUPS: u32 = WIDTH / SUBGROUP;
override PARTIAL: u32 = (4u * max(IN_QUADS, OUT_QUADS) + 4u) * SUBGROUPS;
override LANES: u32 = min(16u, SUBGROUP); // that share a row of the state
override UNIT: u32 = WIDTH / LANES; // rows of the state that a workgroup has at a time

// Words of `sync`.
const PROJECTED = 0u; // workgroups that have stored their part of `projected`
const UPDATED = 1u;   // the same of `y`

var<workgroup> partial: array<f32, PARTIAL>;
var<workgroup> convs: array<Conv, BC>; // of B and C
var<workgroup> residual: array<f32, OUT_ROWS>;
var<workgroup> bs: array<vec4<f32>, FOURS>;
var<workgroup> cs: array<vec4<f32>, FOURS>;
var<workgroup> xs: array<f32, UNIT>;

// Of the convolution of a channel: what the tokens before leave, and the weight of this one.
struct Conv { old: f32, weight: f32 }
// Of the block of the state that this workgroup has: the head's dt_bias, −exp(A_log) and D, and the channel's convolution.
struct Block { s0: vec4<f32>, s1: vec4<f32>, bias: f32, rate: f32, skip: f32, conv: Conv }
struct Quad { a: Stored, b: Stored, c: Stored, d: Stored }

// An eight of the k'th row of in_proj that this workgroup has; behind the last there is nothing to load.
fn in_eight(group: u32, k: u32, lane: u32) -> Stored {
  let row = group + k * WORKGROUPS;
  if (row >= ROWS) { return Stored(); }
  return stored8(row * WIDTH + lane);
}

// The same of out_proj, whose rows are twice as long.
fn out_eight(group: u32, k: u32, eight: u32) -> Stored {
  let row = group + k * WORKGROUPS;
  if (row >= DIM) { return Stored(); }
  return out_weight[row * 2u * WIDTH + eight];
}

// Quad q of in_proj, or of out_proj behind all steps of in_proj, of which the last may have less than three quads. What is
// loaded stays where it is until it is used: a copy would have to wait for it.
fn load(group: u32, lane: u32, q: u32) -> Quad {
  if (q >= IN_QUADS && q < 3u * IN_STEPS) { return Quad(); }
  if (q < IN_QUADS) {
    return Quad(
      in_eight(group, 4u * q, lane),
      in_eight(group, 4u * q + 1u, lane),
      in_eight(group, 4u * q + 2u, lane),
      in_eight(group, 4u * q + 3u, lane),
    );
  }
  let k = 2u * (q - 3u * IN_STEPS);
  return Quad(
    out_eight(group, k, lane),
    out_eight(group, k, lane + WIDTH),
    out_eight(group, k + 1u, lane),
    out_eight(group, k + 1u, lane + WIDTH),
  );
}

fn four_rows(q: Quad, lo: vec4<f32>, hi: vec4<f32>) -> vec4<f32> {
  return vec4(dot8(q.a, 0u, lo, hi), dot8(q.b, 0u, lo, hi), dot8(q.c, 0u, lo, hi), dot8(q.d, 0u, lo, hi));
}

fn two_rows(q: Quad, y0: vec4<f32>, y1: vec4<f32>, y2: vec4<f32>, y3: vec4<f32>) -> vec4<f32> {
  let a = dot8(q.a, 0u, y0, y1) + dot8(q.b, 0u, y2, y3);
  return vec4(a, dot8(q.c, 0u, y0, y1) + dot8(q.d, 0u, y2, y3), 0.0, 0.0);
}

// Sums over the lanes of a subgroup: lanes 4i … 4i + 3 get those of x, y, z and w.
fn subgroup_sums(v: vec4<f32>, lane: u32) -> f32 {
  let odd = (lane & 1u) != 0u;
  let two = select(v.xz, v.yw, odd) + subgroupShuffleXor(select(v.yw, v.xz, odd), 1u);
  let high = (lane & 2u) != 0u;
  var sum = select(two.x, two.y, high) + subgroupShuffleXor(select(two.y, two.x, high), 2u);
  for (var i = 4u; i < SUBGROUP; i *= 2u) { sum += subgroupShuffleXor(sum, i); }
  return sum;
}

// Keeps the subgroups' sums of four numbers.
fn keep(lane: u32, first: u32, v: vec4<f32>) {
  let sum = subgroup_sums(v, lane);
  if (lane % SUBGROUP < 4u) { partial[(first + lane % 4u) * SUBGROUPS + lane / SUBGROUP] = sum; }
}

fn total(at: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < SUBGROUPS; i += 1u) { sum += partial[at * SUBGROUPS + i]; }
  return sum;
}

fn conv_of(channel: u32, position: u32) -> Conv {
  let stride = row_stride(CHANNELS);
  var sum = conv[CHANNELS * TAPS + channel];
  for (var back = 1u; back < TAPS; back += 1u) {
    let slot = (position + TAPS - back) % TAPS;
    sum += conv[channel * TAPS + TAPS - 1u - back] * conv_state[slot * stride + channel];
  }
  return Conv(sum, conv[channel * TAPS + TAPS - 1u]);
}

// All of a block that is there before the token is.
fn block_of(unit: u32, lane: u32, position: u32) -> Block {
  let first = min(unit * UNIT, INNER - UNIT);
  let row = first + lane / LANES;
  let head = row / HEAD_DIM;
  let at = row * FOURS + lane % LANES;
  let rate = -exp(per_head[HEADS + head]);
  let own = conv_of(first + lane % UNIT, position);
  return Block(ssm[at], ssm[at + LANES], per_head[head], rate, per_head[2u * HEADS + head], own);
}

// The convolution, and the raw value kept where no workgroup reads it yet.
fn convolve(channel: u32, position: u32, c: Conv, owner: bool) -> f32 {
  let raw = projected[INNER + channel];
  if (owner) { conv_state[(position % TAPS) * row_stride(CHANNELS) + channel] = raw; }
  return silu(c.old + c.weight * raw);
}

// S ← decay·S + dt·x·B for four numbers; their part of S·C.
fn advance(at: u32, n: u32, s: vec4<f32>, decay: f32, dtx: f32) -> f32 {
  let next = decay * s + dtx * bs[n];
  ssm[at + n] = next;
  return dot(next, cs[n]);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = id.x;
  if (group == 0u && lane == 0u) { atomicStore(&sync[UPDATED], 0u); } // nobody gets there before this one has arrived
  if (params.dry != 0u) {
    arrive(lane, PROJECTED);
    wait(lane, PROJECTED);
    return;
  }

  var q0 = load(group, lane, 0u);
  var q1 = load(group, lane, 1u);
  var q2 = load(group, lane, 2u);
  var lo = x[2u * lane];
  var hi = x[2u * lane + 1u];
  keep(lane, 4u * IN_QUADS, vec4(dot(lo, lo) + dot(hi, hi), 0.0, 0.0, 0.0));
  lo *= norm[2u * lane];
  hi *= norm[2u * lane + 1u];
  for (var q = 0u; q < 3u * IN_STEPS; q += 3u) {
    let a = four_rows(q0, lo, hi);
    q0 = load(group, lane, q + 3u);
    keep(lane, 4u * q, a);
    let b = four_rows(q1, lo, hi);
    q1 = load(group, lane, q + 4u);
    if (q + 1u < IN_QUADS) { keep(lane, 4u * q + 4u, b); }
    let c = four_rows(q2, lo, hi);
    q2 = load(group, lane, q + 5u);
    if (q + 2u < IN_QUADS) { keep(lane, 4u * q + 8u, c); }
  }
  workgroupBarrier();
  let in_scale = inverseSqrt(total(4u * IN_QUADS) / f32(DIM) + params.eps);
  for (var k = lane; k < IN_ROWS; k += WIDTH) {
    let row = group + k * WORKGROUPS;
    if (row < ROWS) { projected[row] = in_scale * total(k); }
  }
  arrive(lane, PROJECTED);

  // All that is there already is asked for before the wait.
  let position = first_position();
  for (var i = lane; i < BC; i += WIDTH) { convs[i] = conv_of(INNER + i, position); }
  for (var k = lane; k < OUT_ROWS; k += WIDTH) {
    let row = min(group + k * WORKGROUPS, DIM - 1u);
    residual[k] = x[row / 4u][row % 4u];
  }
  var unit = group;
  let n = lane % LANES;
  var block = block_of(unit, lane, position);
  let g0 = gated_norm[2u * lane];
  let g1 = gated_norm[2u * lane + 1u];
  let g2 = gated_norm[2u * (lane + WIDTH)];
  let g3 = gated_norm[2u * (lane + WIDTH) + 1u];
  wait(lane, PROJECTED);
  while (unit * UNIT < INNER) {
    for (var i = lane; i < BC; i += WIDTH) {
      let v = convolve(INNER + i, position, convs[i], unit == 0u);
      if (i < BC / 2u) { bs[i / 4u][i % 4u] = v; } else { cs[(i - BC / 2u) / 4u][i % 4u] = v; }
    }
    if (lane < UNIT) { xs[lane] = convolve(unit * UNIT + lane, position, block.conv, true); }
    let row = unit * UNIT + lane / LANES;
    let raw = params.dt_scale * projected[INNER + CHANNELS + row / HEAD_DIM] + block.bias;
    let dt = clamp(softplus(raw), params.dt_min, params.dt_max);
    let decay = exp(dt * block.rate);
    let gate = silu(params.z_scale * projected[row]);
    workgroupBarrier();
    let v = xs[lane / LANES];
    let at = row * FOURS;
    var sum = advance(at, n, block.s0, decay, dt * v) + advance(at, n + LANES, block.s1, decay, dt * v);
    for (var i = n + 2u * LANES; i < FOURS; i += LANES) { sum += advance(at, i, ssm[at + i], decay, dt * v); }
    for (var i = LANES / 2u; i > 0u; i /= 2u) { sum += subgroupShuffleXor(sum, i); }
    if (n == 0u) { y[row / 4u][row % 4u] = (sum + block.skip * v) * gate; }
    unit += WORKGROUPS;
    if (unit * UNIT < INNER) { block = block_of(unit, lane, position); }
    workgroupBarrier();
  }
  arrive(lane, UPDATED);
  wait(lane, UPDATED);
  workgroupBarrier(); // sums are kept in the place of others, and not every workgroup has been in that loop

  if (group == 0u && lane == 0u) { atomicStore(&sync[PROJECTED], 0u); } // nobody waits for it any more
  let lost = atomicLoad(&sync[GAVE_UP]) != 0u;
  var y0 = y[2u * lane];
  var y1 = y[2u * lane + 1u];
  var y2 = y[2u * (lane + WIDTH)];
  var y3 = y[2u * (lane + WIDTH) + 1u];
  keep(lane, 4u * OUT_QUADS, vec4(dot(y0, y0) + dot(y1, y1) + dot(y2, y2) + dot(y3, y3), 0.0, 0.0, 0.0));
  y0 *= g0;
  y1 *= g1;
  y2 *= g2;
  y3 *= g3;
  for (var q = 0u; q < OUT_QUADS; q += 3u) {
    let more = q + 3u < OUT_QUADS;
    let next = 3u * IN_STEPS + q + 3u;
    let a = two_rows(q0, y0, y1, y2, y3);
    if (more) { q0 = load(group, lane, next); }
    keep(lane, 4u * q, a);
    let b = two_rows(q1, y0, y1, y2, y3);
    if (more) { q1 = load(group, lane, next + 1u); }
    if (q + 1u < OUT_QUADS) { keep(lane, 4u * q + 4u, b); }
    let c = two_rows(q2, y0, y1, y2, y3);
    if (more) { q2 = load(group, lane, next + 2u); }
    if (q + 2u < OUT_QUADS) { keep(lane, 4u * q + 8u, c); }
  }
  workgroupBarrier();
  let scale = params.scale * inverseSqrt(total(4u * OUT_QUADS) / f32(INNER) + params.gated_eps);
  for (var k = lane; k < OUT_ROWS; k += WIDTH) {
    let row = group + k * WORKGROUPS;
    var v = scale * total(4u * (k / 2u) + k % 2u);
    if (lost) { v = bitcast<f32>(params.patience | 0x7fc00000u); } // no number
    if (row < DIM) { x[row / 4u][row % 4u] = residual[k] + v; }
  }
}
