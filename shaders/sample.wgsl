// Picks the next token: repeat penalty → top-k → top-p → min-p → temperature → draw, llama.cpp's order, without a sort.
//   top-k: k largest lie at or above the k-th largest of the invocations' own maxima, so the few logits there are listed and
//          ranked, and each invocation has one of them. Where they are too many, or k is: a radix select over the bit patterns
//          (four histograms of 256 bins) finds the k-th, and what follows goes through a list of any length
//   top-p: the largest threshold whose mass is still ≥ top_p; of a long list by a search over bit patterns
//   draw:  the kept tokens in order of their ids, the first whose cumulative weight exceeds u · total
// The session's logits stay as they are: a token that nobody took can be drawn again. One workgroup; what top-k kept is in
// increasing order of ids, so that nothing depends on timing. With MAXIMA `logit_maxima` has looked at the logits before it.
struct Params { vocab: u32, recent: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<vec4<f32>>;      // (1, vocab), the session's logits
@group(1) @binding(1) var<storage, read> recent: array<u32>;            // (recent) slot = position % recent
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read> options: array<u32>;           // see shared/logits.wgsl
@group(1) @binding(4) var<storage, read_write> candidates: array<u32>;  // (vocab) scratch: maxima, then a long list
@group(1) @binding(5) var<storage, read_write> adjusted: array<vec4<f32>>; // (1, vocab) scratch: a copy, if penalised
@group(1) @binding(6) var<storage, read_write> ids: array<u32>;         // the result goes to ids[0]

override MAXIMA: bool = false;
const WIDTH = 256u;
const SIXTEEN = 16u; // the root of WIDTH
const LIST = 512u;

var<workgroup> bins: array<atomic<u32>, WIDTH>;
var<workgroup> words: array<u32, WIDTH>;
var<workgroup> sums: array<f32, WIDTH>;
var<workgroup> blocks: array<f32, SIXTEEN>;
var<workgroup> chosen: vec2<u32>;
// Ids and keys of the logits that may be among the k largest, in any order, and whether they are. Before that `list_kept` is
// of parts that may have some.
var<workgroup> noted: atomic<u32>;
var<workgroup> listed: atomic<u32>;
var<workgroup> list_ids: array<u32, LIST>;
var<workgroup> list_keys: array<u32, LIST>;
var<workgroup> list_kept: array<u32, LIST>;
// The k largest of them, by id.
var<workgroup> kept_ids: array<u32, WIDTH>;
var<workgroup> kept_keys: array<u32, WIDTH>;
fn workgroup_max(lane: u32, value: u32) -> u32 {
  workgroupBarrier();
  words[lane] = value;
  workgroupBarrier();
  var m = value;
  for (var i = lane % SIXTEEN; i < WIDTH; i += SIXTEEN) { m = max(m, words[i]); }
  workgroupBarrier();
  words[lane] = m; // sixteen maxima, repeated
  workgroupBarrier();
  for (var i = 0u; i < SIXTEEN; i += 1u) { m = max(m, words[i]); }
  return m;
}

fn workgroup_sum(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  sums[lane] = value;
  workgroupBarrier();
  if (lane < SIXTEEN) {
    var s = 0.0;
    for (var i = 0u; i < SIXTEEN; i += 1u) { s += sums[lane * SIXTEEN + i]; }
    blocks[lane] = s;
  }
  workgroupBarrier();
  var s = 0.0;
  for (var i = 0u; i < SIXTEEN; i += 1u) { s += blocks[i]; }
  return s;
}

// Where this invocation's run starts in a list to which each adds `count`; every invocation's run follows the one before.
fn run_start(lane: u32, count: u32) -> u32 {
  workgroupBarrier();
  words[lane] = count;
  workgroupBarrier();
  var at = 0u;
  for (var i = 0u; i < lane; i += 1u) { at += words[i]; }
  return at;
}

// Parts of the logits, eight fours each, some way apart; with MAXIMA those of `logit_maxima`, else an invocation has one.
fn parts() -> u32 { return (params.vocab + 32u * PART - 1u) / (32u * PART) * PART; }

fn part_four(part: u32, i: u32) -> u32 {
  if (!MAXIMA) { return part + i * WIDTH; }
  return part / PART * 8u * PART + part % PART + i * PART;
}

// Maxima of four parts, which come together.
fn four_maxima(part: u32) -> vec4<u32> {
  let last = parts() - 1u;
  let at = vec4(part) + vec4(0u, 1u, 2u, 3u) * WIDTH;
  let there = at <= vec4(last);
  let near = min(at, vec4(last));
  let x = vec4(candidates[near.x], candidates[near.y], candidates[near.z], candidates[near.w]);
  return select(vec4(0u), x, there);
}

fn better_part(best: vec2<u32>, part: u32, x: vec4<u32>) -> vec2<u32> {
  var found = best;
  found = select(found, vec2(x.x, part), x.x > found.x);
  found = select(found, vec2(x.y, part + WIDTH), x.y > found.x);
  found = select(found, vec2(x.z, part + 2u * WIDTH), x.z > found.x);
  return select(found, vec2(x.w, part + 3u * WIDTH), x.w > found.x);
}

// The largest key of this invocation's parts, and the lowest id that has it.
fn own_best(lane: u32) -> vec2<u32> {
  if (!MAXIMA) { return best_of(lane, WIDTH); }
  var best = vec2(0u, 0u);
  for (var i = lane; i < parts(); i += 8u * WIDTH) {
    let a = four_maxima(i);
    let b = four_maxima(i + 4u * WIDTH);
    best = better_part(best, i, a);
    best = better_part(best, i + 4u * WIDTH, b);
  }
  return vec2(best.x, candidates[parts() + best.y]);
}

// Notes a part of which the largest logit is not below `least`.
fn note(part: u32, x: u32, least: u32) {
  if (x < least) { return; } // as nearly all are
  let at = atomicAdd(&noted, 1u);
  if (at < LIST) { list_kept[at] = part; }
}

fn note_four(part: u32, x: vec4<u32>, least: u32) {
  note(part, x.x, least);
  note(part + WIDTH, x.y, least);
  note(part + 2u * WIDTH, x.z, least);
  note(part + 3u * WIDTH, x.w, least);
}

// Lists a logit that is not below `least`, or counts it where there is no room left.
fn list_one(id: u32, x: u32, least: u32) {
  if (x >= least && id < params.vocab) {
    let at = atomicAdd(&listed, 1u);
    if (at < LIST) {
      list_ids[at] = id;
      list_keys[at] = x;
    }
  }
}

fn list_four(id: u32, v: vec4<f32>, least: u32) {
  let x = keys(v);
  if (all(x < vec4(least))) { return; }
  list_one(id, x.x, least);
  list_one(id + 1u, x.y, least);
  list_one(id + 2u, x.z, least);
  list_one(id + 3u, x.w, least);
}

// Lists what is not below the k-th largest of the invocations' own maxima (`best` is this one's). Returns how many there are,
// which may be more than there is room for.
fn list_large(lane: u32, k: u32, best: u32) -> u32 {
  workgroupBarrier();
  words[lane] = best;
  if (lane == 0u) {
    atomicStore(&noted, 0u);
    atomicStore(&listed, 0u);
  }
  workgroupBarrier();
  var before = vec4(0u);
  for (var i = 0u; i < WIDTH; i += 8u) { // eight, so that they come together
    let a = vec4(words[i], words[i + 1u], words[i + 2u], words[i + 3u]);
    let b = vec4(words[i + 4u], words[i + 5u], words[i + 6u], words[i + 7u]);
    let own = vec4(lane) > vec4(i) + vec4(0u, 1u, 2u, 3u);
    let more = vec4(lane) > vec4(i) + vec4(4u, 5u, 6u, 7u);
    before += select(vec4(0u), vec4(1u), (a > vec4(best)) | ((a == vec4(best)) & own));
    before += select(vec4(0u), vec4(1u), (b > vec4(best)) | ((b == vec4(best)) & more));
  }
  if (dot(before, vec4(1u)) == k - 1u) { chosen.x = best; }
  workgroupBarrier();
  let least = chosen.x;
  if (MAXIMA) {
    for (var i = lane; i < parts(); i += 8u * WIDTH) {
      let a = four_maxima(i);
      let b = four_maxima(i + 4u * WIDTH);
      note_four(i, a, least);
      note_four(i + 4u * WIDTH, b, least);
    }
  } else {
    note(lane, best, least);
  }
  workgroupBarrier();
  // What is in them is shared out by fours.
  for (var i = lane; i < 8u * min(atomicLoad(&noted), LIST); i += WIDTH) {
    let at = part_four(list_kept[i / 8u], i % 8u);
    list_four(4u * at, four(at), least);
  }
  workgroupBarrier();
  // Barriers follow that depend on it, so it must be seen to be the same everywhere.
  if (lane == 0u) { chosen.y = select(atomicLoad(&listed), NONE, atomicLoad(&noted) > LIST); }
  return workgroupUniformLoad(&chosen).y;
}

// Of four of the `count` listed, which come together, those that go before a key and its id.
fn ahead_of(j: u32, count: u32, x: u32, id: u32) -> vec4<u32> {
  let others = vec4(list_keys[j], list_keys[j + 1u], list_keys[j + 2u], list_keys[j + 3u]);
  let ids = vec4(list_ids[j], list_ids[j + 1u], list_ids[j + 2u], list_ids[j + 3u]);
  let there = vec4(j) + vec4(0u, 1u, 2u, 3u) < vec4(count);
  return select(vec4(0u), vec4(1u), there & ((others > vec4(x)) | ((others == vec4(x)) & (ids < vec4(id)))));
}

fn kept_before(j: u32, count: u32, id: u32) -> vec4<u32> {
  let ids = vec4(list_ids[j], list_ids[j + 1u], list_ids[j + 2u], list_ids[j + 3u]);
  let kept = vec4(list_kept[j], list_kept[j + 1u], list_kept[j + 2u], list_kept[j + 3u]);
  return select(vec4(0u), kept, (vec4(j) + vec4(0u, 1u, 2u, 3u) < vec4(count)) & (ids < vec4(id)));
}

// Keeps the k largest of the `count` listed, k at most WIDTH, of equal ones those with the lowest ids. Returns how many.
fn keep_largest(lane: u32, k: u32, count: u32) -> u32 {
  for (var i = lane; i < count; i += WIDTH) {
    let x = list_keys[i];
    let id = list_ids[i];
    var before = 0u;
    for (var j = 0u; j < count; j += 4u) { before += dot(vec4(1u), ahead_of(j, count, x, id)); }
    list_kept[i] = select(0u, 1u, before < k);
  }
  workgroupBarrier();
  for (var i = lane; i < count; i += WIDTH) {
    let id = list_ids[i];
    var before = 0u;
    for (var j = 0u; j < count; j += 4u) { before += dot(vec4(1u), kept_before(j, count, id)); }
    if (list_kept[i] == 1u) {
      kept_ids[before] = id;
      kept_keys[before] = list_keys[i];
    }
  }
  workgroupBarrier();
  return min(k, count);
}

// Top-p and the draw where every invocation has one of the kept at most.
fn draw_kept(lane: u32, count: u32, highest: f32) {
  let own = select(0u, kept_keys[lane], lane < count);
  let x = unkey(own);
  let top_p = option_f32(TOP_P);
  var threshold = 0u;
  if (top_p < 1.0) {
    sums[lane] = select(0.0, exp(max(x - highest, -80.0)), lane < count);
    workgroupBarrier();
    var all = 0.0;
    var mass = 0.0;
    for (var i = 0u; i < count; i += 4u) { // behind the last the sums are 0
      let w = vec4(sums[i], sums[i + 1u], sums[i + 2u], sums[i + 3u]);
      let x = vec4(kept_keys[i], kept_keys[i + 1u], kept_keys[i + 2u], kept_keys[i + 3u]);
      all += dot(w, vec4(1.0));
      mass += dot(select(vec4(0.0), w, x >= vec4(own)), vec4(1.0));
    }
    let enough = workgroup_max(lane, select(0u, own, mass >= top_p * all));
    threshold = min(enough, key(highest)); // with top_p ≤ 0 no mass at all would do
  }
  let stays = lane < count && own >= threshold && x >= highest + option_f32(MIN_P_LOG);
  let weight = select(0.0, exp(max((x - highest) / option_f32(TEMPERATURE), -80.0)), stays);
  workgroupBarrier();
  sums[lane] = weight;
  workgroupBarrier();
  var before = 0.0;
  var total = 0.0;
  var last = weight > 0.0;
  for (var i = 0u; i < count; i += 4u) {
    let w = vec4(sums[i], sums[i + 1u], sums[i + 2u], sums[i + 3u]);
    let at = vec4(i) + vec4(0u, 1u, 2u, 3u);
    // One by one: every invocation must come to the same sums.
    total = (((total + w.x) + w.y) + w.z) + w.w;
    let own = select(vec4(0.0), w, at < vec4(lane));
    before = (((before + own.x) + own.y) + own.z) + own.w;
    last = last && all((at <= vec4(lane)) | (w == vec4(0.0)));
  }
  let at = uniform_at(options[SEED_LO], options[SEED_HI], control[CONSUMED]) * total;
  if (weight > 0.0 && before <= at && (at < before + weight || last)) { ids[0] = kept_ids[lane]; }
}

// The k-th largest key, and how many of the tokens with exactly that key belong to the k largest.
fn kth_largest(lane: u32, k: u32) -> vec2<u32> {
  var prefix = 0u;
  var left = k;
  for (var shift = 32u; shift > 0u; shift -= 8u) {
    atomicStore(&bins[lane], 0u);
    workgroupBarrier();
    for (var i = lane; i < params.vocab; i += WIDTH) {
      let x = key(logit(i));
      // The digits above this one must match; a shift by 32 would be undefined, and nothing is above the first digit.
      if (shift == 32u || (x >> (shift & 31u)) == (prefix >> (shift & 31u))) {
        atomicAdd(&bins[(x >> (shift - 8u)) & 255u], 1u);
      }
    }
    workgroupBarrier();
    if (lane == 0u) {
      var bin = 255u;
      var above = 0u;
      for (; bin > 0u; bin -= 1u) {
        let here = atomicLoad(&bins[bin]);
        if (above + here >= left) { break; }
        above += here;
      }
      chosen = vec2(prefix | (bin << (shift - 8u)), left - above);
    }
    workgroupBarrier();
    prefix = chosen.x;
    left = chosen.y;
  }
  return vec2(prefix, left);
}

// Lists the ids whose key is above `threshold`, and the lowest `ties` ids with exactly that key. Returns how many.
fn list_candidates(lane: u32, threshold: u32, ties: u32) -> u32 {
  let run = (params.vocab + WIDTH - 1u) / WIDTH;
  let begin = min(lane * run, params.vocab);
  let end = min(begin + run, params.vocab);
  var equal = 0u;
  for (var i = begin; i < end; i += 1u) { equal += select(0u, 1u, key(logit(i)) == threshold); }
  let equal_before = run_start(lane, equal);
  let ties_here = min(equal, ties - min(ties, equal_before));
  var above = 0u;
  for (var i = begin; i < end; i += 1u) { above += select(0u, 1u, key(logit(i)) > threshold); }
  var at = run_start(lane, above + ties_here);
  var ties_left = ties_here;
  for (var i = begin; i < end; i += 1u) {
    let x = key(logit(i));
    let tie = x == threshold && ties_left > 0u;
    if (tie) { ties_left -= 1u; }
    if (x > threshold || tie) {
      candidates[at] = i;
      at += 1u;
    }
  }
  return workgroup_max(lane, at); // the ends of the runs increase
}

// The largest key such that the candidates at or above it hold at least `top_p` of the mass.
fn top_p_threshold(lane: u32, count: u32, highest: f32, top_p: f32) -> u32 {
  var sum = 0.0;
  for (var i = lane; i < count; i += WIDTH) { sum += exp(max(logit(candidates[i]) - highest, -80.0)); }
  let wanted = top_p * workgroup_sum(lane, sum);
  var threshold = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
    let trial = threshold | bit;
    var mass = 0.0;
    for (var i = lane; i < count; i += WIDTH) {
      let x = logit(candidates[i]);
      if (key(x) >= trial) { mass += exp(max(x - highest, -80.0)); }
    }
    if (workgroup_sum(lane, mass) >= wanted) { threshold = trial; }
  }
  return min(threshold, key(highest)); // with top_p ≤ 0 no mass at all would do
}

fn draw(lane: u32, count: u32, highest: f32, threshold: u32, least: f32) {
  let temperature = option_f32(TEMPERATURE);
  let run = (count + WIDTH - 1u) / WIDTH;
  let begin = min(lane * run, count);
  let end = min(begin + run, count);
  var weight = 0.0;
  for (var i = begin; i < end; i += 1u) {
    let x = logit(candidates[i]);
    if (key(x) >= threshold && x >= least) { weight += exp(max((x - highest) / temperature, -80.0)); }
  }
  let total = workgroup_sum(lane, weight); // leaves every invocation's weight in `sums`
  let u = uniform_at(options[SEED_LO], options[SEED_HI], control[CONSUMED]);
  var before = 0.0;
  for (var i = 0u; i < lane; i += 1u) { before += sums[i]; }
  var last = weight > 0.0;
  for (var i = lane + 1u; i < WIDTH; i += 1u) { last = last && sums[i] == 0.0; }
  let target_weight = u * total;
  if (weight > 0.0 && before <= target_weight && (target_weight < before + weight || last)) {
    var picked = NONE;
    var sum = before;
    for (var i = begin; i < end; i += 1u) {
      let x = logit(candidates[i]);
      if (key(x) >= threshold && x >= least) {
        if (picked != NONE && sum > target_weight) { break; }
        picked = candidates[i];
        sum += exp(max((x - highest) / temperature, -80.0));
      }
    }
    ids[0] = picked;
  }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32) {
  let penalises = option_f32(PENALTY) != 1.0; // a private variable would not be seen to be the same everywhere
  penalised = penalises;
  if (penalises && !MAXIMA) {
    for (var i = lane; 4u * i < params.vocab; i += WIDTH) { adjusted[i] = source[i]; }
    storageBarrier();
    penalise(lane, WIDTH, 0u, params.vocab);
    storageBarrier();
  }
  let best = own_best(lane);
  let top = workgroup_max(lane, best.x);
  let id = NONE - workgroup_max(lane, select(0u, NONE - best.y, best.x == top));
  if (option_f32(TEMPERATURE) <= 0.0) {
    if (lane == 0u) { ids[0] = id; }
    return;
  }
  let highest = logit(id);
  let k = options[TOP_K];
  if (k > 0u && k <= WIDTH) {
    let found = list_large(lane, k, best.x);
    if (found <= LIST) {
      draw_kept(lane, keep_largest(lane, k, found), highest);
      return;
    }
  }
  var kth = vec2(0u, 0u);
  if (k > 0u && k < params.vocab) { kth = kth_largest(lane, k); }
  let count = list_candidates(lane, kth.x, kth.y);
  storageBarrier();
  var threshold = 0u;
  let top_p = option_f32(TOP_P);
  if (top_p < 1.0) { threshold = top_p_threshold(lane, count, highest, top_p); }
  draw(lane, count, highest, threshold, highest + option_f32(MIN_P_LOG));
}
