// One token's attention, where it is selected or with ALL (arXiv 2410.18572 eq. 4), in a window: at position i it sees the
// positions (i − window, i].
//   out = softmax(scale · q · k_j) v_j, by an online softmax over tiles of 64 positions
// Keys and values of a position come from the window's ring (slot = position % window), with SEGMENT the token's own from
// the segment. With ROTARY the first `rotary` channels of the query's heads are rotated here. A workgroup per head: a lane
// per key, then per four channels of every GROUPS-th four of values. With PARTS > 1 a workgroup has a part of the positions
// only, and row `part` of out is
//   [Σ p_j v_j (heads·head_dim) | highest score (heads) | Σ p_j (heads)], p_j = exp(score_j − highest)
// which `merge_attention` puts together.
struct Params { heads: u32, kv_heads: u32, head_dim: u32, window: u32, rotary: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;         // (rotary / 2) pairs hi, lo, if ROTARY
@group(1) @binding(0) var<storage, read> q: array<f32>;             // (1, heads·head_dim)
@group(1) @binding(1) var<storage, read> kv: array<vec4<f32>>;      // (1, 2·kv_heads·head_dim), if SEGMENT
@group(1) @binding(2) var<storage, read> window: array<vec4<f32>>;  // (up to window, 2·kv_heads·head_dim)
@group(1) @binding(3) var<storage, read> control: array<u32>;
@group(1) @binding(4) var<storage, read> selection: array<u32>;     // unless ALL
@group(1) @binding(5) var<storage, read_write> out: array<f32>;     // (1, heads·head_dim), or the parts

override SEGMENT: bool = false;
override ALL: bool = false;
override PARTS: u32 = 1u;
override HEAD_DIM: u32 = 64u;
override COLUMNS: u32 = 16u;    // a power of two, at least head_dim / 4
override GROUPS: u32 = WIDTH / COLUMNS;
override QUERY: u32 = (HEAD_DIM + 15u) / 16u * 4u; // fours of a query, padded to sixteens with zeros
const WIDTH = 64u;
const LOWEST = -1e30;
var<workgroup> query: array<vec4<f32>, QUERY>;
var<workgroup> scores: array<f32, WIDTH>;
var<workgroup> highs: array<f32, 8>;
var<workgroup> sums: array<vec4<f32>, WIDTH>;

// Which buffer has the row of a position, and where a row of the ring starts; the segment's only row starts at zero.
fn in_segment(position: u32) -> bool { return SEGMENT && position == first_position(); }
fn ring_row(position: u32) -> u32 { return (position % params.window) * row_stride(kv_cols()); }

// Sixteen channels at a time: all are asked for before any is used. What stands behind a head's channels is multiplied by
// the zeros behind the query.
fn score(position: u32, column: u32) -> f32 {
  var sum = 0.0;
  if (in_segment(position)) {
    for (var d = 0u; d < QUERY; d += 4u) {
      let at = column + 4u * d;
      let k = mat4x4(segment_four(at), segment_four(at + 4u), segment_four(at + 8u), segment_four(at + 12u));
      sum += dot(k[0], query[d]) + dot(k[1], query[d + 1u]) + dot(k[2], query[d + 2u]) + dot(k[3], query[d + 3u]);
    }
  } else {
    let base = ring_row(position) + column;
    for (var d = 0u; d < QUERY; d += 4u) {
      let at = base + 4u * d;
      let k = mat4x4(ring_four(at), ring_four(at + 4u), ring_four(at + 8u), ring_four(at + 12u));
      sum += dot(k[0], query[d]) + dot(k[1], query[d + 1u]) + dot(k[2], query[d + 2u]) + dot(k[3], query[d + 3u]);
    }
  }
  return sum;
}

fn value(position: u32, column: u32) -> vec4<f32> {
  if (in_segment(position)) { return segment_four(column); }
  return ring_four(ring_row(position) + column);
}

// The highest of the tile's scores.
fn highest_score(lane: u32) -> f32 {
  if (lane < 8u) {
    var high = scores[lane];
    for (var i = lane + 8u; i < WIDTH; i += 8u) { high = max(high, scores[i]); }
    highs[lane] = high;
  }
  workgroupBarrier();
  let a = max(vec4(highs[0], highs[1], highs[2], highs[3]), vec4(highs[4], highs[5], highs[6], highs[7]));
  return max(max(a.x, a.y), max(a.z, a.w));
}

fn finish(lane: u32, base: u32, total: f32, acc: vec4<f32>) {
  for (var c = 0u; c < 4u; c += 1u) {
    let d = 4u * lane + c;
    if (d < params.head_dim) { out[base + d] = acc[c] / total; }
  }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (!ALL && selection[COUNT] == 0u) { return; }
  let head = group.x;
  let part = group.y;
  let position = first_position();
  let kv_head = head / (params.heads / params.kv_heads);
  let k_column = kv_head * params.head_dim;
  let v_column = (params.kv_heads + kv_head) * params.head_dim + 4u * (lane % COLUMNS);
  let seen = min(position + 1u, params.window);
  // The part of this workgroup: whole tiles, the last parts may have fewer or none.
  let share = (seen + WIDTH * PARTS - 1u) / (WIDTH * PARTS) * WIDTH;
  let skipped = min(part * share, seen);
  let begin = position + 1u - seen + skipped;
  let keys = min(share, seen - skipped);
  for (var d = lane; d < 4u * QUERY; d += WIDTH) {
    query[d / 4u][d % 4u] = query_channel(head * params.head_dim, d, position);
  }
  workgroupBarrier();

  var acc = vec4(0.0); // channels 4·(lane % COLUMNS) … + 3
  var total = 0.0;
  var highest = LOWEST;
  for (var at = 0u; at < keys; at += WIDTH) {
    let tile = begin + at;
    let length = min(WIDTH, keys - at);
    let last = tile + length - 1u;
    var s = LOWEST;
    if (lane < length) { s = score(tile + lane, k_column); }
    scores[lane] = s;
    workgroupBarrier();
    let next = max(highest, highest_score(lane));
    let fade = exp(max(highest - next, -80.0));
    acc *= fade;
    total *= fade;
    highest = next;
    scores[lane] = select(0.0, exp(max(s - highest, -80.0)), lane < length);
    workgroupBarrier();
    for (var j = 4u * (lane / COLUMNS); j < length; j += 4u * GROUPS) {
      let p = vec4(scores[j], scores[j + 1u], scores[j + 2u], scores[j + 3u]);
      let v = mat4x4(
        value(tile + j, v_column), value(min(tile + j + 1u, last), v_column), value(min(tile + j + 2u, last), v_column),
        value(min(tile + j + 3u, last), v_column),
      );
      total += p.x + p.y + p.z + p.w;
      acc += v * p;
    }
    workgroupBarrier();
  }
  sums[lane] = acc;
  scores[lane] = total;
  workgroupBarrier();
  if (lane >= COLUMNS) { return; }
  for (var i = lane + COLUMNS; i < WIDTH; i += COLUMNS) {
    acc += sums[i];
    total += scores[i];
  }
  let cols = params.heads * params.head_dim;
  if (PARTS == 1u) {
    finish(lane, head * params.head_dim, total, acc);
    return;
  }
  let row = part * row_stride(cols + 2u * params.heads);
  finish(lane, row + head * params.head_dim, 1.0, acc);
  if (lane == 0u) {
    out[row + cols + head] = highest;
    out[row + cols + params.heads + head] = total;
  }
}
