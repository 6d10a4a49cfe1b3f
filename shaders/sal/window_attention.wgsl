// Attention of the selected tokens (arXiv 2410.18572 eq. 4), or of all with ALL, causal in a window: token i sees the
// positions (i − window, i].
//   out[r] = softmax(scale · q_r · k_j) v_j, by an online softmax over tiles of 64 positions
// Keys and values of a position come from the segment (SEGMENT, position ≥ the segment's first) or from the window's ring
// (slot = position % window). With ROTARY the first `rotary` channels of the query's heads are rotated here. A workgroup per
// (selected row r, head), or with ALL per (head, token r).
struct Params { heads: u32, kv_heads: u32, head_dim: u32, window: u32, capacity: u32, rotary: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;         // (rotary / 2) pairs hi, lo, if ROTARY
@group(1) @binding(0) var<storage, read> q: array<f32>;             // (selected, heads·head_dim)
@group(1) @binding(1) var<storage, read> kv: array<f32>;            // (tokens, 2·kv_heads·head_dim), if SEGMENT
@group(1) @binding(2) var<storage, read> window: array<f32>;        // (up to window, 2·kv_heads·head_dim)
@group(1) @binding(3) var<storage, read> control: array<u32>;
@group(1) @binding(4) var<storage, read> selection: array<u32>;     // unless ALL
@group(1) @binding(5) var<storage, read_write> out: array<f32>;     // (selected, heads·head_dim)

override ROTARY: bool = false;
override SEGMENT: bool = true;
override ALL: bool = false;
override HEAD_DIM: u32 = 64u;
override PADDED: u32 = (HEAD_DIM + 7u) / 8u * 8u;
const WIDTH = 64u;
const LOWEST = -1e30;
var<workgroup> query: array<f32, PADDED>; // the padding is zero
var<workgroup> scores: array<f32, WIDTH>;

fn kv_cols() -> u32 { return 2u * params.kv_heads * params.head_dim; }

// Where the row of a position starts, and in which buffer.
fn in_segment(position: u32) -> bool { return SEGMENT && position >= first_position(); }
fn segment_row(position: u32) -> u32 { return (position - first_position()) * row_stride(kv_cols()); }
fn ring_row(position: u32) -> u32 { return (position % params.window) * row_stride(kv_cols()); }

fn load_query(r: u32, head: u32, position: u32, lane: u32) {
  let base = r * row_stride(params.heads * params.head_dim) + head * params.head_dim;
  let half = params.rotary / 2u;
  for (var d = lane; d < params.head_dim; d += WIDTH) {
    var v = q[base + d];
    if (ROTARY && d < params.rotary) {
      let rot = rotation(position, d % half);
      if (d < half) { v = v * rot.x - q[base + d + half] * rot.y; } else { v = v * rot.x + q[base + d - half] * rot.y; }
    }
    query[d] = v * params.scale;
  }
  if (lane < PADDED - HEAD_DIM) { query[HEAD_DIM + lane] = 0.0; }
}

// Eight channels of the query times those of a key. All are asked for before any is used.
fn segment_eight(at: u32, d: u32) -> f32 {
  let a = vec4(kv[at + d], kv[at + d + 1u], kv[at + d + 2u], kv[at + d + 3u]);
  let b = vec4(kv[at + d + 4u], kv[at + d + 5u], kv[at + d + 6u], kv[at + d + 7u]);
  return dot(a, query_four(d)) + dot(b, query_four(d + 4u));
}

fn ring_eight(at: u32, d: u32) -> f32 {
  let a = vec4(window[at + d], window[at + d + 1u], window[at + d + 2u], window[at + d + 3u]);
  let b = vec4(window[at + d + 4u], window[at + d + 5u], window[at + d + 6u], window[at + d + 7u]);
  return dot(a, query_four(d)) + dot(b, query_four(d + 4u));
}

fn query_four(d: u32) -> vec4<f32> {
  return vec4(query[d], query[d + 1u], query[d + 2u], query[d + 3u]);
}

// What stands behind a head's channels is multiplied by the zeros behind the query.
fn score(position: u32, column: u32) -> f32 {
  var sum = 0.0;
  if (in_segment(position)) {
    let base = segment_row(position) + column;
    for (var d = 0u; d < PADDED; d += 8u) { sum += segment_eight(base, d); }
  } else {
    let base = ring_row(position) + column;
    for (var d = 0u; d < PADDED; d += 8u) { sum += ring_eight(base, d); }
  }
  return sum;
}

fn value(position: u32, column: u32) -> f32 {
  if (in_segment(position)) { return kv[segment_row(position) + column]; }
  return window[ring_row(position) + column];
}

// Four positions' values of one channel, weighted.
fn weighted(p: vec4<f32>, first: u32, last: u32, column: u32) -> f32 {
  let v = vec4(
    value(first, column), value(min(first + 1u, last), column), value(min(first + 2u, last), column),
    value(min(first + 3u, last), column),
  );
  return dot(p, v);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let r = select(group.x, group.y, ALL);
  let head = select(group.y, group.x, ALL);
  if (!ALL && r >= selection[COUNT]) { return; }
  var position = first_position() + r;
  if (!ALL) { position = first_position() + selection[index_at(r, params.capacity)]; }
  let kv_head = head / (params.heads / params.kv_heads);
  let k_column = kv_head * params.head_dim;
  let v_column = (params.kv_heads + kv_head) * params.head_dim;
  let begin = position + 1u - min(position + 1u, params.window);
  load_query(r, head, position, lane);
  workgroupBarrier();

  var acc = vec4(0.0); // channels lane, lane + 64, lane + 128, lane + 192
  var total = 0.0;
  var highest = LOWEST;
  let keys = position + 1u - begin;
  for (var at = 0u; at < keys; at += WIDTH) {
    let tile = begin + at;
    let length = min(WIDTH, keys - at);
    var s = LOWEST;
    if (lane < length) { s = score(tile + lane, k_column); }
    scores[lane] = s;
    workgroupBarrier();
    var next = highest;
    for (var j = 0u; j < length; j += 1u) { next = max(next, scores[j]); }
    let fade = exp(max(highest - next, -80.0));
    acc *= fade;
    total *= fade;
    highest = next;
    workgroupBarrier();
    scores[lane] = select(0.0, exp(max(s - highest, -80.0)), lane < length);
    workgroupBarrier();
    for (var j = 0u; j < length; j += 4u) {
      let p = vec4(scores[j], scores[j + 1u], scores[j + 2u], scores[j + 3u]);
      total += p.x + p.y + p.z + p.w;
      acc.x += weighted(p, tile + j, position, v_column + min(lane, HEAD_DIM - 1u));
      if (HEAD_DIM > WIDTH) { acc.y += weighted(p, tile + j, position, v_column + min(lane + WIDTH, HEAD_DIM - 1u)); }
      if (HEAD_DIM > 2u * WIDTH) {
        acc.z += weighted(p, tile + j, position, v_column + min(lane + 2u * WIDTH, HEAD_DIM - 1u));
        acc.w += weighted(p, tile + j, position, v_column + min(lane + 3u * WIDTH, HEAD_DIM - 1u));
      }
    }
    workgroupBarrier();
  }
  let base = r * row_stride(params.heads * params.head_dim) + head * params.head_dim;
  for (var c = 0u; c < 4u; c += 1u) {
    let d = lane + c * WIDTH;
    if (d < params.head_dim) { out[base + d] = acc[c] / total; }
  }
}
