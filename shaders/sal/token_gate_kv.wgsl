// One token, first step of a selective attention layer: x = RMSNorm(h); the first workgroup computes the gate and asks the
// bucket, the others write k = W_k x (rotated by its position with ROTARY) and v = W_v x into the window's ring.
// A workgroup of 64 has SLOTS slots of LANES lanes, a slot owns a pair of rows: with ROTARY the two halves of a rotation.
struct Params { cols: u32, rows: u32, head_dim: u32, window: u32, capacity: u32, eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> gate: array<vec4<f32>>;          // norm (cols), W_g (2, cols), b_g (2), end to end
@group(0) @binding(3) var<storage, read> table: array<u32>;               // (head_dim / 2) pairs hi, lo, if ROTARY
@group(1) @binding(0) var<storage, read> hidden: array<vec4<f32>>;        // (1, cols)
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> window: array<f32>;        // (window, rows) k then v, slot = position % window
@group(1) @binding(3) var<storage, read_write> sal: array<u32>;           // the bucket
@group(1) @binding(4) var<storage, read_write> selection: array<u32>;

override ROTARY: bool = false;
override LANES: u32 = 16u;
const WIDTH = 64u;
override SLOTS: u32 = WIDTH / LANES;
var<workgroup> partial: array<vec4<f32>, WIDTH>;

// The sum over `lanes` consecutive lanes, a power of two from four. What the first of them returns is right.
fn lane_sum(lane: u32, lanes: u32, value: vec4<f32>) -> vec4<f32> {
  if (lanes <= SUBGROUP) { return subgroup_sum(value, lanes); }
  var sum = value;
  partial[lane] = sum;
  workgroupBarrier();
  if (lane % 4u == 0u) { // fours, then fours of them
    sum += partial[lane + 1u] + partial[lane + 2u] + partial[lane + 3u];
    partial[lane] = sum;
  }
  workgroupBarrier();
  if (lane % lanes == 0u) {
    for (var i = 4u; i < lanes; i += 4u) { sum += partial[lane + i]; }
  }
  return sum;
}

fn norm_scale(squares: f32) -> f32 {
  return inverseSqrt(squares / f32(params.cols) + params.eps);
}

fn decide(s: vec2<f32>) {
  let wants = select(0u, 1u, s.y > s.x);
  var bucket = Bucket(sal[CREDIT], sal[SELECTED], sal[REFUSED], sal[RATE], sal[BURST]);
  let granted = admit(&bucket, wants, 1u);
  sal[CREDIT] = bucket.credit;
  sal[SELECTED] = bucket.selected;
  sal[REFUSED] = bucket.refused;
  selection[COUNT] = granted;
  selection[alpha_at(0u)] = bitcast<u32>(sigmoid(s.y - s.x));
  selection[mask_at(0u, params.capacity)] = granted;
  selection[index_at(0u, params.capacity)] = 0u;
}

// The two rows of W_kv that a slot owns.
fn row_pair(pair: u32) -> vec2<u32> {
  let half = params.head_dim / 2u;
  if (ROTARY && pair < params.rows / 4u) { // k takes the first half of the rows
    let first = (pair / half) * params.head_dim + pair % half;
    return vec2(first, first + half);
  }
  return vec2(2u * pair, 2u * pair + 1u);
}

fn store(pair: u32, value: vec2<f32>) {
  let position = first_position();
  let rows = row_pair(pair);
  var v = value;
  if (ROTARY && pair < params.rows / 4u) {
    let r = rotation(position, pair % (params.head_dim / 2u));
    v = vec2(v.x * r.x - v.y * r.y, v.y * r.x + v.x * r.y);
  }
  let base = (position % params.window) * row_stride(params.rows);
  window[base + rows.x] = v.x;
  window[base + rows.y] = v.y;
}

fn gate_at(at: u32) -> f32 { return gate[at / 4u][at % 4u]; }

// Four weights of the gate. What pads the residual stream is zero, so what stands behind the last of them does not count.
fn gate_four(at: u32) -> vec4<f32> {
  if (at % 4u == 0u) { return gate[at / 4u]; }
  return vec4(gate_at(at), gate_at(at + 1u), gate_at(at + 2u), gate_at(at + 3u));
}

// An eight of the input times one of each row, its squares, and nothing.
fn two_eights(a: Stored, b: Stored, rows: vec2<u32>, i: u32) -> vec4<f32> {
  var lo = hidden[2u * i];
  var hi = hidden[2u * i + 1u];
  let squares = dot(lo, lo) + dot(hi, hi);
  lo *= gate[2u * i];
  hi *= gate[2u * i + 1u];
  return vec4(dot8(a, rows.x + i, lo, hi), dot8(b, rows.y + i, lo, hi), squares, 0.0);
}

// Two products and the squares of the input in one go: the scale of the norm comes last.
fn key_value(pair: u32, lane: u32) {
  let eights = row_stride(params.cols) / 8u;
  let rows = min(row_pair(pair), vec2(params.rows - 1u)) * weight_stride(params.cols);
  var sum = vec4(0.0);
  for (var i = lane % LANES; i < eights; i += 2u * LANES) {
    let j = min(i + LANES, eights - 1u);
    let a0 = stored8(rows.x + i);
    let b0 = stored8(rows.y + i);
    let a1 = stored8(rows.x + j);
    let b1 = stored8(rows.y + j);
    sum += two_eights(a0, b0, rows, i);
    if (i + LANES < eights) { sum += two_eights(a1, b1, rows, j); }
  }
  sum = lane_sum(lane, LANES, sum);
  if (lane % LANES == 0u && 2u * pair < params.rows) { store(pair, norm_scale(sum.z) * sum.xy); }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (group.x > 0u) {
    key_value((group.x - 1u) * SLOTS + lane / LANES, lane);
    return;
  }
  var sum = vec4(0.0); // score, score, squares, nothing
  for (var i = lane; 4u * i < params.cols; i += WIDTH) {
    let x = hidden[i];
    let normed = x * gate[i];
    let first = gate_four(params.cols + 4u * i);
    let second = gate_four(2u * params.cols + 4u * i);
    sum += vec4(dot(normed, first), dot(normed, second), dot(x, x), 0.0);
  }
  sum = lane_sum(lane, WIDTH, sum);
  if (lane == 0u) {
    decide(norm_scale(sum.z) * sum.xy + vec2(gate_at(3u * params.cols), gate_at(3u * params.cols + 1u)));
  }
}
