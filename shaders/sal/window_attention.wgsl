// Attention of a segment's selected tokens (arXiv 2410.18572 eq. 4), or of all with ALL, causal in a window: token i sees the
// positions (i − window, i].
//   out[r] = softmax(scale · q_r · k_j) v_j, by an online softmax over tiles of 64 positions
// A workgroup per (head, tile of QUERIES rows r), the last tiles first, since they see most. The queries of a tile share what
// they load: it goes over the positions that any of them sees, and each weighs with zero what it does not see. Scores: four
// queries by four keys to an invocation, keys staged 16 channels at a time. Values: every query by four channels of every
// GROUPS-th four of positions, straight from memory. Keys and values of a position come from the segment (position ≥ the
// segment's first) or from the window's ring (slot = position % window); a tile of positions lies in one of the two. With
// ROTARY the first `rotary` channels of the query's heads are rotated here.
struct Params { heads: u32, kv_heads: u32, head_dim: u32, window: u32, capacity: u32, rotary: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;         // (rotary / 2) pairs hi, lo, if ROTARY
@group(1) @binding(0) var<storage, read> q: array<f32>;             // (selected, heads·head_dim)
@group(1) @binding(1) var<storage, read> kv: array<vec4<f32>>;      // (tokens, 2·kv_heads·head_dim)
@group(1) @binding(2) var<storage, read> window: array<vec4<f32>>;  // (up to window, 2·kv_heads·head_dim)
@group(1) @binding(3) var<storage, read> control: array<u32>;
@group(1) @binding(4) var<storage, read> selection: array<u32>;     // unless ALL
@group(1) @binding(5) var<storage, read_write> out: array<f32>;     // (selected, heads·head_dim)

override ALL: bool = false;
override QUERIES: u32 = 16u;    // 16, or 8 where more have no room
override HEAD_DIM: u32 = 64u;
override COLUMNS: u32 = 16u;    // a power of two, at least head_dim / 4
override GROUPS: u32 = WIDTH / COLUMNS;
override SLICES: u32 = (HEAD_DIM + 15u) / 16u;
override FOURS_OF_QUERY: u32 = 4u * SLICES; // padded to sixteens of channels with zeros
override QUERY: u32 = QUERIES * FOURS_OF_QUERY;
const WIDTH = 64u; // invocations, and positions of a tile
const LOWEST = -1e30;
var<workgroup> query: array<vec4<f32>, QUERY>;
var<workgroup> staged: array<vec4<f32>, 256>; // keys, then weights, [query][four of positions], in the end sums
var<workgroup> highs: array<vec4<f32>, WIDTH>; // of an invocation's four queries
var<workgroup> fades: array<vec4<f32>, 4>; // [four of queries], in the end totals
var<private> scores: array<vec4<f32>, 4>; // [query][key]
var<private> sums: array<vec4<f32>, 16>; // [query][channel]
var<private> highest: vec4<f32>; // of four queries
var<private> total: vec4<f32>;   // of their weights of this invocation's keys

// Consecutive positions of one buffer.
struct Tile { ring: bool, row: u32, wrap: u32, length: u32 }

// Those from `position` on.
fn tile_from(position: u32, end: u32) -> Tile {
  let first = first_position();
  if (position < first) {
    return Tile(true, position % params.window, params.window, min(WIDTH, first - position));
  }
  return Tile(false, position - first, ~0u, min(WIDTH, end - position));
}

// Where four of its rows start, from the `offset`-th on. Behind the last one it stands again.
fn rows_of(tile: Tile, offset: u32) -> vec4<u32> {
  let row = tile.row + min(vec4(offset) + vec4(0u, 1u, 2u, 3u), vec4(tile.length - 1u));
  return (row - select(vec4(0u), vec4(tile.wrap), row >= vec4(tile.wrap))) * row_stride(kv_cols());
}

// Four channels of four rows.
fn sixteen(ring: bool, at: vec4<u32>) -> mat4x4<f32> {
  if (ring) { return mat4x4(ring_four(at.x), ring_four(at.y), ring_four(at.z), ring_four(at.w)); }
  return mat4x4(segment_four(at.x), segment_four(at.y), segment_four(at.z), segment_four(at.w));
}

fn position_of(r: u32) -> u32 {
  if (ALL) { return first_position() + r; }
  return first_position() + selection[index_at(r, params.capacity)];
}

fn load_queries(first: u32, last: u32, head: u32, lane: u32) {
  for (var i = lane; i < QUERY; i += WIDTH) {
    let r = min(first + i / FOURS_OF_QUERY, last);
    let base = r * row_stride(params.heads * params.head_dim) + head * params.head_dim;
    let d = 4u * (i % FOURS_OF_QUERY);
    let position = position_of(r);
    query[i] = vec4(
      query_channel(base, d, position), query_channel(base, d + 1u, position), query_channel(base, d + 2u, position),
      query_channel(base, d + 3u, position),
    );
  }
}

// Puts four channels of four keys, one of each in every sixteen rows, the channels in an order in which neither this nor
// `multiply` has two invocations at one bank.
fn put_keys(lane: u32, keys: mat4x4<f32>) {
  let at = lane / 4u * 4u + ((lane % 4u) ^ (lane / 8u % 4u));
  staged[at] = keys[0];
  staged[at + 64u] = keys[1];
  staged[at + 128u] = keys[2];
  staged[at + 192u] = keys[3];
}

fn added(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
  return sum + a.x * b[0] + a.y * b[1] + a.z * b[2] + a.w * b[3];
}

// Four channels: eight loads from workgroup memory feed 64 multiply-adds. `at` is where the first query has them.
fn multiply(lane: u32, four: u32, at: u32) {
  let key = lane % 16u * 4u + (four ^ (lane / 2u % 4u));
  let keys = transpose(mat4x4(staged[key], staged[key + 64u], staged[key + 128u], staged[key + 192u]));
  scores[0] = added(scores[0], query[at + four], keys);
  scores[1] = added(scores[1], query[at + four + FOURS_OF_QUERY], keys);
  scores[2] = added(scores[2], query[at + four + 2u * FOURS_OF_QUERY], keys);
  scores[3] = added(scores[3], query[at + four + 3u * FOURS_OF_QUERY], keys);
}

// The scores of a tile, of which the first channels are there.
fn score(lane: u32, tile: Tile, rows: vec4<u32>, first: mat4x4<f32>, own: u32) {
  scores = array<vec4<f32>, 4>();
  var keys = first;
  for (var slice = 0u; slice < SLICES; slice += 1u) {
    workgroupBarrier();
    put_keys(lane, keys);
    workgroupBarrier();
    if (slice + 1u < SLICES) { keys = sixteen(tile.ring, rows + 16u * (slice + 1u)); }
    let queries = own * FOURS_OF_QUERY + 4u * slice;
    multiply(lane, 0u, queries);
    multiply(lane, 1u, queries);
    multiply(lane, 2u, queries);
    multiply(lane, 3u, queries);
  }
}

// Four positions from four `at` of the tile on: sixteen loads from workgroup memory feed 256 multiply-adds.
fn weigh(at: u32, values: mat4x4<f32>) {
  sums[0] = added(sums[0], staged[at], values);
  sums[1] = added(sums[1], staged[at + 16u], values);
  sums[2] = added(sums[2], staged[at + 32u], values);
  sums[3] = added(sums[3], staged[at + 48u], values);
  sums[4] = added(sums[4], staged[at + 64u], values);
  sums[5] = added(sums[5], staged[at + 80u], values);
  sums[6] = added(sums[6], staged[at + 96u], values);
  sums[7] = added(sums[7], staged[at + 112u], values);
  sums[8] = added(sums[8], staged[at + 128u], values);
  sums[9] = added(sums[9], staged[at + 144u], values);
  sums[10] = added(sums[10], staged[at + 160u], values);
  sums[11] = added(sums[11], staged[at + 176u], values);
  sums[12] = added(sums[12], staged[at + 192u], values);
  sums[13] = added(sums[13], staged[at + 208u], values);
  sums[14] = added(sums[14], staged[at + 224u], values);
  sums[15] = added(sums[15], staged[at + 240u], values);
}

fn fade_sums() {
  let a = fades[0];
  let b = fades[1];
  let c = fades[2];
  let d = fades[3];
  sums[0] *= a.x;
  sums[1] *= a.y;
  sums[2] *= a.z;
  sums[3] *= a.w;
  sums[4] *= b.x;
  sums[5] *= b.y;
  sums[6] *= b.z;
  sums[7] *= b.w;
  sums[8] *= c.x;
  sums[9] *= c.y;
  sums[10] *= c.z;
  sums[11] *= c.w;
  sums[12] *= d.x;
  sums[13] *= d.y;
  sums[14] *= d.z;
  sums[15] *= d.w;
}

fn highest_four(at: u32) -> vec4<f32> {
  return max(max(highs[at], highs[at + 1u]), max(highs[at + 2u], highs[at + 3u]));
}

fn highest_of(score: vec4<f32>, seen: vec4<bool>) -> f32 {
  let v = select(vec4(LOWEST), score, seen);
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn weights_of(score: vec4<f32>, high: f32, seen: vec4<bool>) -> vec4<f32> {
  return select(vec4(0.0), exp(max(score - high, vec4(-80.0))), seen);
}

fn sum_of(v: vec4<f32>) -> f32 { return v.x + v.y + v.z + v.w; }

// From scores to weights, zero where a query does not see a position. `ages` are the queries' positions less the tile's first:
// what is behind a query has, as the difference wraps, an age beyond every window.
fn put_weights(lane: u32, length: u32, ages: vec4<u32>) {
  let offsets = vec4(lane % 16u * 4u) + vec4(0u, 1u, 2u, 3u);
  let inside = offsets < vec4(length);
  let seen0 = (vec4(ages.x) - offsets < vec4(params.window)) & inside;
  let seen1 = (vec4(ages.y) - offsets < vec4(params.window)) & inside;
  let seen2 = (vec4(ages.z) - offsets < vec4(params.window)) & inside;
  let seen3 = (vec4(ages.w) - offsets < vec4(params.window)) & inside;
  highs[lane] = vec4(
    highest_of(scores[0], seen0), highest_of(scores[1], seen1), highest_of(scores[2], seen2), highest_of(scores[3], seen3),
  );
  workgroupBarrier();
  let first = lane / 16u * 16u;
  let low_half = max(highest_four(first), highest_four(first + 4u));
  let high_half = max(highest_four(first + 8u), highest_four(first + 12u));
  let next = max(highest, max(low_half, high_half));
  let fade = exp(max(highest - next, vec4(-80.0)));
  if (lane % 16u == 0u) { fades[lane / 16u] = fade; }
  highest = next;
  let p0 = weights_of(scores[0], next.x, seen0);
  let p1 = weights_of(scores[1], next.y, seen1);
  let p2 = weights_of(scores[2], next.z, seen2);
  let p3 = weights_of(scores[3], next.w, seen3);
  total = total * fade + vec4(sum_of(p0), sum_of(p1), sum_of(p2), sum_of(p3));
  let at = lane / 16u * 64u + lane % 16u;
  staged[at] = p0;
  staged[at + 16u] = p1;
  staged[at + 32u] = p2;
  staged[at + 48u] = p3;
}

// Four rows from r on, whose sums every group has a part of; `quad` says where their totals are.
fn finish(lane: u32, r: u32, quad: u32, last: u32, head: u32,
          v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
  workgroupBarrier();
  staged[lane] = v0;
  staged[lane + 64u] = v1;
  staged[lane + 128u] = v2;
  staged[lane + 192u] = v3;
  workgroupBarrier();
  for (var i = lane; i < 4u * COLUMNS; i += WIDTH) {
    let row = i / COLUMNS;
    var sum = vec4(0.0);
    for (var j = i % COLUMNS; j < WIDTH; j += COLUMNS) { sum += staged[WIDTH * row + j]; }
    if (r + row > last) { continue; }
    let base = (r + row) * row_stride(params.heads * params.head_dim) + head * params.head_dim;
    for (var c = 0u; c < 4u; c += 1u) {
      let column = 4u * (i % COLUMNS) + c;
      if (column < params.head_dim) { out[base + column] = sum[c] / fades[quad][row]; }
    }
  }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  var count = control[TOKENS];
  if (!ALL) { count = selection[COUNT]; }
  let r0 = ((count + QUERIES - 1u) / QUERIES - 1u - group.y) * QUERIES;
  let last = min(r0 + QUERIES, count) - 1u;
  let kv_head = head / (params.heads / params.kv_heads);
  let k_column = kv_head * params.head_dim + 4u * (lane % 4u);
  let v_column = (params.kv_heads + kv_head) * params.head_dim + 4u * (lane % COLUMNS);
  let own = 4u * (lane / 16u) % QUERIES; // the first of this invocation's four queries
  let r = min(vec4(r0 + own) + vec4(0u, 1u, 2u, 3u), vec4(last)); // behind the last row it stands again
  let own_positions = vec4(position_of(r.x), position_of(r.y), position_of(r.z), position_of(r.w));
  let seen_first = min(position_of(r0) + 1u, params.window);
  let begin = position_of(r0) + 1u - seen_first;
  let end = position_of(last) + 1u;
  load_queries(r0, last, head, lane);
  sums = array<vec4<f32>, 16>();
  highest = vec4(LOWEST);
  total = vec4(0.0);
  var tile = tile_from(begin, end);
  var key_rows = rows_of(tile, lane / 4u * 4u) + k_column;
  var keys = sixteen(tile.ring, key_rows);
  for (var at = begin; at < end;) {
    score(lane, tile, key_rows, keys, own);
    // What is needed next is on its way before it is: values while weights are made, keys while values are weighed.
    var four = lane / COLUMNS;
    var values = sixteen(tile.ring, rows_of(tile, 4u * four) + v_column);
    put_weights(lane, tile.length, own_positions - at);
    workgroupBarrier();
    fade_sums();
    at += tile.length;
    let following = tile_from(at, end);
    if (at < end) {
      key_rows = rows_of(following, lane / 4u * 4u) + k_column;
      keys = sixteen(following.ring, key_rows);
    }
    while (4u * four < tile.length) {
      let now = values;
      let later = four + GROUPS;
      if (4u * later < tile.length) { values = sixteen(tile.ring, rows_of(tile, 4u * later) + v_column); }
      weigh(four, now);
      four = later;
    }
    tile = following;
  }
  highs[lane] = total;
  workgroupBarrier();
  if (lane < 4u) {
    var sum = vec4(0.0);
    for (var i = 0u; i < 16u; i += 1u) { sum += highs[16u * lane + i]; }
    fades[lane] = sum;
  }
  finish(lane, r0, 0u, last, head, sums[0], sums[1], sums[2], sums[3]);
  finish(lane, r0 + 4u, 1u, last, head, sums[4], sums[5], sums[6], sums[7]);
  finish(lane, r0 + 8u, 2u, last, head, sums[8], sums[9], sums[10], sums[11]);
  finish(lane, r0 + 12u, 3u, last, head, sums[12], sums[13], sums[14], sums[15]);
}
