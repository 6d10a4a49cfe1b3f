// One token through the inside of a Mamba-2 mixer: convolution, state update, gate (arXiv 2405.21060, the recurrent form).
//   [x | B | C] = silu(conv(raw)), dt = clamp(softplus(dt_raw + dt_bias)), S ← exp(−dt·exp(A_log))·S + dt·x ⊗ B,
//   y = S·C + D·x, and y · silu(z) with GATE.
// A workgroup per (head, block of BLOCK rows of P); 32 lanes split N, 8 slots share the rows. The raw row of this token goes
// into the ring slot that no workgroup reads (its age would be `taps`), each channel written by one workgroup only.
struct Params { heads: u32, head_dim: u32, groups: u32, d_state: u32, taps: u32, cols: u32, dt_min: f32, dt_max: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> conv: array<f32>;              // weight (channels, taps), then bias (channels)
@group(0) @binding(2) var<storage, read> per_head: array<f32>;          // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) var<storage, read> projected: array<f32>;         // (1, cols): z | x | B | C | dt
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> conv_state: array<f32>;  // (taps, channels)
@group(1) @binding(3) var<storage, read_write> ssm: array<f32>;         // (H·P, N)
@group(1) @binding(4) var<storage, read_write> y: array<f32>;           // (1, H·P)

override GATE: bool = true;
override D_STATE: u32 = 128u;
const BLOCK = 32u;
const LANES = 32u;
const SLOTS = 8u;
const WIDTH = 256u;
const PER_SLOT = 4u; // BLOCK / SLOTS

var<workgroup> xs: array<f32, BLOCK>;
var<workgroup> bs: array<f32, D_STATE>;
var<workgroup> cs: array<f32, D_STATE>;
var<workgroup> partial: array<vec4<f32>, WIDTH>; // a component per row of the slot

fn inner() -> u32 { return params.heads * params.head_dim; }
fn channels() -> u32 { return inner() + 2u * params.groups * params.d_state; }

// The activated convolution of one channel; keeps the raw value where this workgroup owns the channel.
fn convolve(channel: u32, owner: bool) -> f32 {
  let stride = row_stride(channels());
  let newest = first_position() % params.taps;
  let current = projected[inner() + channel];
  let w = channel * params.taps;
  var sum = conv[channels() * params.taps + channel] + conv[w + params.taps - 1u] * current;
  for (var back = 1u; back < params.taps; back += 1u) {
    let slot = newest + select(0u, params.taps, back > newest) - back;
    sum += conv[w + params.taps - 1u - back] * conv_state[slot * stride + channel];
  }
  if (owner) { conv_state[newest * stride + channel] = current; }
  return silu(sum);
}

// One row of the state, this lane's share of N: S ← decay·S + dt·x·B; returns its part of S·C.
fn advance(row: u32, base: u32, decay: f32, dtx: f32, lane: u32) -> f32 {
  if (row >= params.head_dim) { return 0.0; }
  var at = base;
  var sum = 0.0;
  for (var n = lane % LANES; n < params.d_state; n += LANES) {
    let s = decay * ssm[at] + dtx * bs[n];
    ssm[at] = s;
    sum += s * cs[n];
    at += LANES;
  }
  return sum;
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let row0 = group.y * BLOCK;
  let per_group = params.heads / params.groups;
  let b_at = inner() + (head / per_group) * params.d_state;
  let c_at = b_at + params.groups * params.d_state;
  let owns_group = head % per_group == 0u && group.y == 0u;
  for (var i = lane; i < params.d_state; i += WIDTH) {
    bs[i] = convolve(b_at + i, owns_group);
    cs[i] = convolve(c_at + i, owns_group);
  }
  if (lane < BLOCK && row0 + lane < params.head_dim) {
    xs[lane] = convolve(head * params.head_dim + row0 + lane, true);
  }
  workgroupBarrier();

  let raw = projected[inner() + channels() + head] + per_head[head];
  let dt = clamp(softplus(raw), params.dt_min, params.dt_max);
  let decay = exp(-dt * exp(per_head[params.heads + head]));
  let stride = row_stride(params.d_state);
  let first = (lane / LANES) * PER_SLOT;
  let base = (head * params.head_dim + row0 + first) * stride + lane % LANES;
  partial[lane] = vec4(
    advance(row0 + first, base, decay, dt * xs[first], lane),
    advance(row0 + first + 1u, base + stride, decay, dt * xs[first + 1u], lane),
    advance(row0 + first + 2u, base + 2u * stride, decay, dt * xs[first + 2u], lane),
    advance(row0 + first + 3u, base + 3u * stride, decay, dt * xs[first + 3u], lane),
  );
  workgroupBarrier();
  if (lane < BLOCK && row0 + lane < params.head_dim) {
    var out = per_head[2u * params.heads + head] * xs[lane];
    let slot = lane / PER_SLOT;
    for (var i = 0u; i < LANES; i += 1u) { out += partial[slot * LANES + i][lane % PER_SLOT]; }
    let at = head * params.head_dim + row0 + lane;
    if (GATE) { out *= silu(projected[at]); }
    y[at] = out;
  }
}
