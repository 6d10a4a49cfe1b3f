// One token, first step of a selective attention layer: x = RMSNorm(h); the first workgroup computes the gate and asks the
// bucket, the others write k = W_k x (rotated by its position with ROTARY) and v = W_v x into the window's ring.
// A workgroup of 64 has 4 slots of 16 lanes, a slot owns a pair of rows: with ROTARY the two halves of a rotation.
struct Params { cols: u32, rows: u32, head_dim: u32, window: u32, capacity: u32, eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> gate: array<f32>;                // norm (cols), W_g (2, cols), b_g (2)
@group(0) @binding(3) var<storage, read> table: array<u32>;               // (head_dim / 2) pairs hi, lo, if ROTARY
@group(1) @binding(0) var<storage, read> hidden: array<f32>;              // (1, cols)
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> window: array<f32>;        // (window, rows) k then v, slot = position % window
@group(1) @binding(3) var<storage, read_write> sal: array<u32>;           // the bucket
@group(1) @binding(4) var<storage, read_write> selection: array<u32>;

override ROTARY: bool = false;
const WIDTH = 64u;
const LANES = 16u;
const SLOTS = 4u;
var<workgroup> partial: array<vec2<f32>, WIDTH>;

fn norm_scale(lane: u32) -> f32 {
  var sum = 0.0;
  for (var i = lane; i < params.cols; i += WIDTH) { sum += hidden[i] * hidden[i]; }
  partial[lane] = vec2(sum, 0.0);
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < WIDTH; i += 1u) { sum += partial[i].x; }
  workgroupBarrier();
  return inverseSqrt(sum / f32(params.cols) + params.eps);
}

fn decide(s: vec2<f32>) {
  let wants = select(0u, 1u, s.y > s.x);
  var bucket = Bucket(sal[CREDIT], sal[SELECTED], sal[REFUSED], sal[RATE], sal[BURST]);
  let granted = admit(&bucket, wants);
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

fn key_value(scale: f32, pair: u32, lane: u32) {
  let eights = row_stride(params.cols) / 8u;
  let rows = min(row_pair(pair), vec2(params.rows - 1u)) * weight_stride(params.cols);
  var sum = vec2(0.0);
  for (var i = lane % LANES; i < eights; i += LANES) {
    let a = weight8(rows.x + i);
    let b = weight8(rows.y + i);
    for (var c = 0u; c < 4u; c += 1u) {
      let lo = min(8u * i + c, params.cols - 1u); // the padding of W is zero
      let hi = min(8u * i + 4u + c, params.cols - 1u);
      sum += vec2(a.lo[c], b.lo[c]) * (hidden[lo] * scale * gate[lo]);
      sum += vec2(a.hi[c], b.hi[c]) * (hidden[hi] * scale * gate[hi]);
    }
  }
  partial[lane] = sum;
  workgroupBarrier();
  if (lane % LANES == 0u && 2u * pair < params.rows) {
    for (var i = 1u; i < LANES; i += 1u) { sum += partial[lane + i]; }
    store(pair, sum);
  }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let scale = norm_scale(lane);
  if (group.x > 0u) {
    key_value(scale, (group.x - 1u) * SLOTS + lane / LANES, lane);
    return;
  }
  var sum = vec2(0.0);
  for (var i = lane; i < params.cols; i += WIDTH) {
    sum += hidden[i] * scale * gate[i] * vec2(gate[params.cols + i], gate[2u * params.cols + i]);
  }
  partial[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    for (var i = 1u; i < WIDTH; i += 1u) { sum += partial[i]; }
    decide(sum + vec2(gate[3u * params.cols], gate[3u * params.cols + 1u]));
  }
}
