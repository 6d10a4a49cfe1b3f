// One token through the inside of a Mamba-2 mixer: convolution, state update, gate (arXiv 2405.21060, the recurrent form).
//   [x | B | C] = silu(conv(raw)), dt = clamp(softplus(dt_scale·dt_raw + dt_bias)), S ← exp(−dt·exp(A_log))·S + dt·x ⊗ B,
//   y = S·C + D·x, and y · silu(z_scale·z) with GATE.
// A workgroup per (head, block of BLOCK rows of P). LANES lanes split N by fours, SLOTS slots own ROWS rows each: B and C stay in
// registers while the rows of a slot pass by. With one lane to a slot nothing is left to sum. The raw row of this token goes into
// the ring slot that no workgroup reads (its age would be `taps`), each channel written by one workgroup only.
struct Params {
  heads: u32, head_dim: u32, groups: u32, d_state: u32, cols: u32, z_scale: f32, dt_scale: f32, dt_min: f32,
  dt_max: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> conv: array<f32>;              // weight (channels, taps), then bias (channels)
@group(0) @binding(2) var<storage, read> per_head: array<f32>;          // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) var<storage, read> projected: array<f32>;         // (1, cols): z | x | B | C | dt
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> conv_state: array<f32>;  // (taps, channels)
@group(1) @binding(3) var<storage, read_write> ssm: array<vec4<f32>>;   // (H·P, N)
@group(1) @binding(4) var<storage, read_write> y: array<f32>;           // (1, H·P)

override GATE: bool = true;
override TAPS: u32 = 4u; // of the convolution
override FOURS: u32 = 32u; // a padded row of the state in fours
override LANES: u32 = 32u;  // 1, or a multiple of 4
override SLOTS: u32 = 8u;
override BLOCK: u32 = SLOTS * ROWS;
override WIDTH: u32 = SLOTS * LANES;
const ROWS = 4u; // of a slot

var<workgroup> xs: array<f32, BLOCK>;
var<workgroup> bs: array<vec4<f32>, FOURS>;
var<workgroup> cs: array<vec4<f32>, FOURS>;
var<workgroup> partial: array<vec4<f32>, WIDTH>; // a component per row of the slot

fn inner() -> u32 { return params.heads * params.head_dim; }
fn channels() -> u32 { return inner() + 2u * params.groups * params.d_state; }

// The activated convolution of one channel; keeps the raw value where this workgroup owns the channel.
fn convolve(channel: u32, owner: bool) -> f32 {
  let stride = row_stride(channels());
  let newest = first_position() % TAPS;
  let current = projected[inner() + channel];
  let w = channel * TAPS;
  var sum = conv[channels() * TAPS + channel] + conv[w + TAPS - 1u] * current;
  for (var back = 1u; back < TAPS; back += 1u) {
    let slot = newest + select(0u, TAPS, back > newest) - back;
    sum += conv[w + TAPS - 1u - back] * conv_state[slot * stride + channel];
  }
  if (owner) { conv_state[newest * stride + channel] = current; }
  return silu(sum);
}

// B or C of one padding-free column; what pads a row must be zero.
fn column(at: u32, n: u32, owner: bool) -> f32 {
  if (n >= params.d_state) { return 0.0; }
  return convolve(at + n, owner);
}

// Four numbers of one row of the state.
fn read_state(at: u32, inside: bool) -> vec4<f32> {
  if (!inside) { return vec4(0.0); }
  return ssm[at];
}

// The same four columns of the rows of a slot.
fn read_rows(at: u32, inside: vec4<bool>) -> mat4x4<f32> {
  return mat4x4(
    read_state(at, inside.x),
    read_state(at + FOURS, inside.y),
    read_state(at + 2u * FOURS, inside.z),
    read_state(at + 3u * FOURS, inside.w),
  );
}

// S ← decay·S + dt·x·B for four numbers of one row; returns their part of S·C.
fn advance(at: u32, inside: bool, decayed: vec4<f32>, input: vec4<f32>, c: vec4<f32>) -> f32 {
  if (!inside) { return 0.0; }
  let s = decayed + input;
  ssm[at] = s;
  return dot(s, c);
}

// A row of the head whose part of S·C is summed.
fn finish(head: u32, row0: u32, row: u32, sum: f32) {
  if (row0 + row >= params.head_dim) { return; }
  var out = per_head[2u * params.heads + head] * xs[row] + sum;
  let at = head * params.head_dim + row0 + row;
  if (GATE) { out *= silu(params.z_scale * projected[at]); }
  y[at] = out;
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let row0 = group.y * BLOCK;
  let per_group = params.heads / params.groups;
  let b_at = inner() + (head / per_group) * params.d_state;
  let c_at = b_at + params.groups * params.d_state;
  let owns_group = head % per_group == 0u && group.y == 0u;
  let first = (lane / LANES) * ROWS;
  let inside = vec4(row0 + first) + vec4(0u, 1u, 2u, 3u) < vec4(params.head_dim);
  let base = (head * params.head_dim + row0 + first) * FOURS;
  var n = lane % LANES;
  // Asked for before the convolution, so that it comes while that is computed.
  var state = read_rows(base + n, inside & vec4(n < FOURS));
  for (var i = lane; i < 8u * FOURS; i += WIDTH) { // B, then C
    let n = i % (4u * FOURS);
    if (i < 4u * FOURS) {
      bs[n / 4u][n % 4u] = column(b_at, n, owns_group);
    } else {
      cs[n / 4u][n % 4u] = column(c_at, n, owns_group);
    }
  }
  for (var row = lane; row < BLOCK && row0 + row < params.head_dim; row += WIDTH) {
    xs[row] = convolve(head * params.head_dim + row0 + row, true);
  }
  workgroupBarrier();

  let raw = params.dt_scale * projected[inner() + channels() + head] + per_head[head];
  let dt = clamp(softplus(raw), params.dt_min, params.dt_max);
  let decay = exp(-dt * exp(per_head[params.heads + head]));
  let x = dt * vec4(xs[first], xs[first + 1u], xs[first + 2u], xs[first + 3u]);
  var sum = vec4(0.0);
  while (n < FOURS) {
    let b = bs[n];
    let c = cs[n];
    sum += vec4(
      advance(base + n, inside.x, decay * state[0], x.x * b, c),
      advance(base + FOURS + n, inside.y, decay * state[1], x.y * b, c),
      advance(base + 2u * FOURS + n, inside.z, decay * state[2], x.z * b, c),
      advance(base + 3u * FOURS + n, inside.w, decay * state[3], x.w * b, c),
    );
    n += LANES;
    state = read_rows(base + n, inside & vec4(n < FOURS));
  }
  if (LANES == 1u) {
    for (var r = 0u; r < ROWS; r += 1u) { finish(head, row0, first + r, sum[r]); }
    return;
  }
  partial[lane] = sum;
  workgroupBarrier();
  if (lane % 4u == 0u) { // fours, then eight of them
    partial[lane] = sum + partial[lane + 1u] + partial[lane + 2u] + partial[lane + 3u];
  }
  workgroupBarrier();
  if (lane < BLOCK) {
    let slot = lane / ROWS;
    var out = 0.0;
    for (var i = 0u; i < LANES; i += 4u) { out += partial[slot * LANES + i][lane % ROWS]; }
    finish(head, row0, lane, out);
  }
}
