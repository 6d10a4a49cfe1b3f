// A selected token's attention among workgroups that wait for each other (arXiv 2410.18572 eq. 4 and 5), as `token_step.wgsl` has
// it: a workgroup has a part of the positions that a head sees, LANES lanes a position of it.
const LOWEST = -1e30;
// A softmax over some positions: the highest score, the sum of exp(score − highest), and that times the values.
struct Soft { highest: f32, total: f32, sums: array<vec4<f32>, 4> } // as many sums as a lane has

fn take_four(k: u32) -> vec4<f32> {
  var bits = vec4(~bit);
  for (var tries = 1u; !there(bits) && patient(tries); tries += 1u) { bits = four_given(k); }
  waited(there(bits));
  return numbers(bits);
}

// Where a layer's window begins, and in it a position's keys; fours.
fn window_row(layer: u32, position: u32) -> u32 {
  return layer * ((params.window * KV + 63u) / 64u * 16u) + position % params.window * (KV / 4u);
}

// Fours of a lane's channels, of LANES that share a head.
fn held(lane: u32, c: u32) -> u32 { return lane + c * LANES; }

// A key's and a value's channels of a lane, and those of four positions.
struct Pair { k: array<vec4<f32>, 4>, v: array<vec4<f32>, 4> }
struct Pairs { a: Pair, b: Pair, c: Pair, d: Pair }

fn pair_of(layer: u32, position: u32, kv_head: u32, lane: u32) -> Pair {
  let row = window_row(layer, position) + kv_head * HEAD;
  var out = Pair();
  for (var c = 0u; c < HEAD / LANES; c += 1u) {
    out.k[c] = window[row + held(lane, c)];
    out.v[c] = window[row + KV / 8u + held(lane, c)];
  }
  return out;
}

fn pairs_of(layer: u32, position: vec4<u32>, kv_head: u32, lane: u32) -> Pairs {
  return Pairs(
    pair_of(layer, position.x, kv_head, lane),
    pair_of(layer, position.y, kv_head, lane),
    pair_of(layer, position.z, kv_head, lane),
    pair_of(layer, position.w, kv_head, lane),
  );
}

// The token's own key and value, which are not in the window yet.
fn own_pair(lane: u32) -> Pair {
  var out = Pair();
  for (var c = 0u; c < HEAD / LANES; c += 1u) {
    out.k[c] = bs[HEAD + held(lane, c)];
    out.v[c] = cs[held(lane, c)];
  }
  return out;
}

// The softmax of one position, or of none.
fn soft_of(pair: Pair, exists: bool, lane: u32) -> Soft {
  var score = 0.0;
  for (var c = 0u; c < HEAD / LANES; c += 1u) { score += dot(bs[held(lane, c)], pair.k[c]); }
  for (var i = LANES / 2u; i > 0u; i /= 2u) { score += subgroupShuffleXor(score, i); }
  return Soft(select(LOWEST, score, exists), select(0.0, 1.0, exists), pair.v);
}

// Two softmaxes put together. What is LOWEST comes to nothing beside a score.
fn joined(a: Soft, b: Soft) -> Soft {
  let highest = max(a.highest, b.highest);
  let p = exp(max(a.highest - highest, -80.0));
  let r = exp(max(b.highest - highest, -80.0));
  var out = Soft(highest, p * a.total + r * b.total, a.sums);
  for (var c = 0u; c < HEAD / LANES; c += 1u) { out.sums[c] = p * a.sums[c] + r * b.sums[c]; }
  return out;
}

fn soft_of_pairs(p: Pairs, exists: vec4<bool>, lane: u32) -> Soft {
  let ab = joined(soft_of(p.a, exists.x, lane), soft_of(p.b, exists.y, lane));
  return joined(ab, joined(soft_of(p.c, exists.z, lane), soft_of(p.d, exists.w, lane)));
}

// What the lane has that differs in a bit.
fn across(a: Soft, i: u32) -> Soft {
  var out = Soft(subgroupShuffleXor(a.highest, i), subgroupShuffleXor(a.total, i), a.sums);
  for (var c = 0u; c < HEAD / LANES; c += 1u) { out.sums[c] = subgroupShuffleXor(a.sums[c], i); }
  return out;
}

// A query, and the key and the value of the token, as they are given, to where all can read them.
fn take_head(head: u32, kv_head: u32, thread: u32) {
  let d = thread % HEAD;
  if (thread < HEAD) {
    bit = rounds.chosen & 1u;
    bs[d] = take_four(Q_GIVEN + 4u * (head * HEAD + d));
  } else if (thread < 3u * HEAD) {
    bit = rounds.layer & 1u;
    let four = take_four(KV_GIVEN + 4u * (kv_head * HEAD + d) + select(0u, KV / 2u, thread >= 2u * HEAD));
    if (thread < 2u * HEAD) { bs[HEAD + d] = four; } else { cs[d] = four; }
  }
  bit = rounds.chosen & 1u;
}

// A part of the positions that a head sees, the token's own in the last: what they come to is given. Four positions of a lane come
// together, the first before the query is there.
fn attend_part(unit: u32, thread: u32, layer: u32, position: u32) {
  let head = unit / PARTS;
  let part = unit % PARTS;
  let kv_head = head * KV / (2u * DIM); // heads share keys and values
  let before = min(position, params.window - 1u);
  let share = (before + PARTS - 1u) / PARTS;
  let skipped = min(part * share, before);
  let count = min(share, before - skipped);
  let first = position - before + skipped;
  let last = first + max(count, 1u) - 1u;
  let lane = thread % LANES;
  var at = vec4(thread / LANES) + vec4(0u, 1u, 2u, 3u) * UNIT;
  var pairs = pairs_of(layer, min(vec4(first) + at, vec4(last)), kv_head, lane);
  workgroupBarrier(); // what was in workgroup memory has been used
  take_head(head, kv_head, thread);
  workgroupBarrier();
  var soft = soft_of(own_pair(lane), part + 1u == PARTS && thread < LANES, lane);
  // As often for all: where each lane counts on its own, a compiler has no registers left for the quads.
  for (var i = 0u; i < count; i += 4u * UNIT) {
    let four = soft_of_pairs(pairs, at < vec4(count), lane);
    at += vec4(4u * UNIT);
    pairs = pairs_of(layer, min(vec4(first) + at, vec4(last)), kv_head, lane);
    soft = joined(soft, four);
  }
  for (var i = LANES; i < SUBGROUP; i *= 2u) { soft = joined(soft, across(soft, i)); }
  let subgroup = thread / SUBGROUP;
  if (thread % SUBGROUP < LANES) {
    for (var c = 0u; c < HEAD / LANES; c += 1u) {
      for (var e = 0u; e < 4u; e += 1u) { partial[(4u * held(lane, c) + e) * SUBGROUPS + subgroup] = soft.sums[c][e]; }
    }
    partial[4u * HEAD * SUBGROUPS + subgroup] = soft.highest;
    partial[(4u * HEAD + 1u) * SUBGROUPS + subgroup] = soft.total;
  }
  workgroupBarrier();
  for (var d = thread; d < PART; d += THREADS) { give(PARTS_GIVEN + unit * PART + d, part_number(d)); }
}

// A number of a part, from what the subgroups have of it.
fn part_number(d: u32) -> f32 {
  var highest = LOWEST;
  for (var i = 0u; i < SUBGROUPS; i += 1u) { highest = max(highest, partial[4u * HEAD * SUBGROUPS + i]); }
  if (d == 4u * HEAD) { return highest; }
  let row = select(d, 4u * HEAD + 1u, d > 4u * HEAD);
  var sum = 0.0;
  for (var i = 0u; i < SUBGROUPS; i += 1u) {
    sum += exp(max(partial[4u * HEAD * SUBGROUPS + i] - highest, -80.0)) * partial[row * SUBGROUPS + i];
  }
  return sum;
}

// Eight channels of what all parts of their head come to.
fn take_attended(lane: u32) -> Eight {
  let first = PARTS_GIVEN + lane / 8u * PARTS * PART;
  var highest = LOWEST;
  var total = 0.0;
  var out = Eight(vec4(0.0), vec4(0.0));
  for (var part = 0u; part < PARTS; part += 1u) {
    let at = first + part * PART;
    var lo = vec4(~bit);
    var hi = lo;
    var top = lo;
    for (var tries = 1u; !(there(lo) && there(hi) && there(top)) && patient(tries); tries += 1u) {
      lo = four_given(at + lane % 8u * 8u);
      hi = four_given(at + lane % 8u * 8u + 4u);
      top = four_given(at + 4u * HEAD);
    }
    waited(there(lo) && there(hi) && there(top));
    let own = numbers(top);
    let next = max(highest, own.x);
    let p = exp(max(highest - next, -80.0));
    let r = exp(max(own.x - next, -80.0));
    out = Eight(p * out.lo + r * numbers(lo), p * out.hi + r * numbers(hi));
    total = p * total + r * own.y;
    highest = next;
  }
  return Eight(out.lo / total, out.hi / total);
}

// A selected token's attention; x as it is then. The scale is that of the norm.
fn attend(at: Place, thread: u32, position: u32, layer: u32, scale: f32, normed: Eight) -> Eight {
  let first = layer * LAYER_STRIDE;
  rounds.chosen += 1u;
  bit = rounds.chosen & 1u;
  for (var q = 0u; q < DIM_QUADS; q += 1u) {
    keep(thread, 4u * q, four_rows(at.lane, row_quad(first + Q_AT, DIM, q, at), normed.lo, normed.hi));
  }
  workgroupBarrier();
  for (var j = thread; j < count_of(at.group, DIM); j += THREADS) {
    give(Q_GIVEN + first_of(at.group, DIM) + j, params.attention_scale * scale * total(j % TEAMS, j / TEAMS));
  }
  for (var unit = at.group; unit < UNITS; unit += WORKGROUPS) { attend_part(unit, thread, layer, position); }
  workgroupBarrier();
  bit = rounds.chosen & 1u;
  let v = take_attended(at.lane);
  for (var q = 0u; q < DIM_QUADS; q += 1u) {
    keep(thread, 4u * q, four_rows(at.lane, row_quad(first + Q_AT + DIM_WORDS, DIM, q, at), v.lo, v.hi));
  }
  workgroupBarrier();
  rounds.x += 1u;
  bit = rounds.x & 1u;
  for (var j = thread; j < count_of(at.group, DIM); j += THREADS) {
    give_x(j, at.group, chosen.alpha * (total(j % TEAMS, j / TEAMS) - residual[j]));
  }
  workgroupBarrier();
  return take_x(at.lane);
}
