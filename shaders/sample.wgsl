// Picks the next token: repeat penalty → top-k → top-p → min-p → temperature → draw, llama.cpp's order, without a sort.
//   top-k: k largest lie at or above the k-th largest of the invocations' own maxima, so the few logits there are listed and
//          ranked. Where they are too many: a radix select over the bit patterns (four histograms of 256 bins) finds the k-th
//   top-p: a search over bit patterns finds the largest threshold whose mass is still ≥ top_p
//   draw:  the kept tokens in order of their ids, the first whose cumulative weight exceeds u · total
// The session's logits stay as they are: a token that nobody took can be drawn again. One workgroup; `candidates` holds the ids
// that top-k kept, in increasing order, so that nothing depends on timing.
struct Params { vocab: u32, recent: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<vec4<f32>>;      // (1, vocab), the session's logits
@group(1) @binding(1) var<storage, read> recent: array<u32>;            // (recent) slot = position % recent
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read> options: array<u32>;           // see the constants below
@group(1) @binding(4) var<storage, read_write> candidates: array<u32>;  // (vocab) scratch
@group(1) @binding(5) var<storage, read_write> adjusted: array<vec4<f32>>; // (1, vocab) scratch: a copy, if penalised
@group(1) @binding(6) var<storage, read_write> ids: array<u32>;         // the result goes to ids[0]

const TEMPERATURE = 0u; // f32 bits; ≤ 0 is greedy
const TOP_K = 1u;
const TOP_P = 2u;       // f32 bits
const MIN_P_LOG = 3u;   // f32 bits of ln(min_p), hugely negative when off
const PENALTY = 4u;     // f32 bits
const LAST_N = 5u;
const SEED_LO = 6u;
const SEED_HI = 7u;
const WIDTH = 256u;
const NONE = 0xffffffffu;
const SIXTEEN = 16u; // the root of WIDTH
const LIST = 512u;

var<workgroup> bins: array<atomic<u32>, WIDTH>;
var<workgroup> words: array<u32, WIDTH>;
var<workgroup> sums: array<f32, WIDTH>;
var<workgroup> blocks: array<f32, SIXTEEN>;
var<workgroup> chosen: vec2<u32>;
// Ids and keys of the logits that may be among the k largest, in any order, and whether they are.
var<workgroup> listed: atomic<u32>;
var<workgroup> list_ids: array<u32, LIST>;
var<workgroup> list_keys: array<u32, LIST>;
var<workgroup> list_kept: array<u32, LIST>;
var<private> penalised: bool;

fn option_f32(i: u32) -> f32 { return bitcast<f32>(options[i]); }

fn logit(i: u32) -> f32 {
  if (penalised) { return adjusted[i / 4u][i % 4u]; }
  return source[i / 4u][i % 4u];
}

// Four logits of which the first has an id of 4i; those behind the last are the last four again.
fn four(i: u32) -> vec4<f32> {
  let at = min(i, (params.vocab - 1u) / 4u);
  if (penalised) { return adjusted[at]; }
  return source[at];
}

// A u32 that orders as the float does.
fn key(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn keys(v: vec4<f32>) -> vec4<u32> {
  return vec4(key(v.x), key(v.y), key(v.z), key(v.w));
}

fn penalise(lane: u32) {
  let penalty = option_f32(PENALTY);
  let count = min(options[LAST_N], min(control[CONSUMED], params.recent));
  for (var i = lane; i < count; i += WIDTH) {
    let id = recent[(control[CONSUMED] - 1u - i) % params.recent];
    var first = id < params.vocab;
    for (var j = 0u; j < i; j += 1u) {
      first = first && recent[(control[CONSUMED] - 1u - j) % params.recent] != id;
    }
    if (first) {
      let x = source[id / 4u][id % 4u];
      adjusted[id / 4u][id % 4u] = select(x / penalty, x * penalty, x <= 0.0);
    }
  }
}

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
  if (all(x < vec4(least))) { return; } // as nearly all are
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
  if (lane == 0u) { atomicStore(&listed, 0u); }
  workgroupBarrier();
  var before = 0u;
  for (var i = 0u; i < WIDTH; i += 1u) {
    before += select(0u, 1u, words[i] > best || (words[i] == best && i < lane));
  }
  if (before == k - 1u) { chosen.x = best; }
  workgroupBarrier();
  let least = chosen.x;
  for (var i = lane; 4u * i < params.vocab; i += 4u * WIDTH) {
    let a = four(i);
    let b = four(i + WIDTH);
    let c = four(i + 2u * WIDTH);
    let d = four(i + 3u * WIDTH);
    list_four(4u * i, a, least);
    list_four(4u * (i + WIDTH), b, least);
    list_four(4u * (i + 2u * WIDTH), c, least);
    list_four(4u * (i + 3u * WIDTH), d, least);
  }
  workgroupBarrier();
  // Barriers follow that depend on it, so it must be seen to be the same everywhere.
  if (lane == 0u) { chosen.y = atomicLoad(&listed); }
  return workgroupUniformLoad(&chosen).y;
}

// Keeps the k largest of the `count` listed, of equal ones those with the lowest ids, in order of their ids. Returns how many.
fn keep_largest(lane: u32, k: u32, count: u32) -> u32 {
  for (var i = lane; i < count; i += WIDTH) {
    let x = list_keys[i];
    let id = list_ids[i];
    var before = 0u;
    for (var j = 0u; j < count; j += 1u) {
      before += select(0u, 1u, list_keys[j] > x || (list_keys[j] == x && list_ids[j] < id));
    }
    list_kept[i] = select(0u, 1u, before < k);
  }
  workgroupBarrier();
  for (var i = lane; i < count; i += WIDTH) {
    let id = list_ids[i];
    var before = 0u;
    for (var j = 0u; j < count; j += 1u) { before += select(0u, list_kept[j], list_ids[j] < id); }
    if (list_kept[i] == 1u) { candidates[before] = id; }
  }
  return min(k, count);
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

// The larger of `best`, a key and its id, and four logits. With branches a compiler takes minutes to see through the many calls.
fn better(best: vec2<u32>, id: u32, v: vec4<f32>) -> vec2<u32> {
  let x = keys(v);
  var found = best;
  found = select(found, vec2(x.x, id), (x.x > found.x) & (id < params.vocab));
  found = select(found, vec2(x.y, id + 1u), (x.y > found.x) & (id + 1u < params.vocab));
  found = select(found, vec2(x.z, id + 2u), (x.z > found.x) & (id + 2u < params.vocab));
  found = select(found, vec2(x.w, id + 3u), (x.w > found.x) & (id + 3u < params.vocab));
  return found;
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32) {
  let penalises = option_f32(PENALTY) != 1.0; // a private variable would not be seen to be the same everywhere
  penalised = penalises;
  if (penalises) {
    for (var i = lane; 4u * i < params.vocab; i += WIDTH) { adjusted[i] = source[i]; }
    storageBarrier();
    penalise(lane);
    storageBarrier();
  }
  var best = vec2(0u, lane);
  // Thirty-two at a time, so that they come together.
  for (var i = lane; 4u * i < params.vocab; i += 8u * WIDTH) {
    let a = four(i);
    let b = four(i + WIDTH);
    let c = four(i + 2u * WIDTH);
    let d = four(i + 3u * WIDTH);
    let e = four(i + 4u * WIDTH);
    let f = four(i + 5u * WIDTH);
    let g = four(i + 6u * WIDTH);
    let h = four(i + 7u * WIDTH);
    best = better(best, 4u * i, a);
    best = better(best, 4u * (i + WIDTH), b);
    best = better(best, 4u * (i + 2u * WIDTH), c);
    best = better(best, 4u * (i + 3u * WIDTH), d);
    best = better(best, 4u * (i + 4u * WIDTH), e);
    best = better(best, 4u * (i + 5u * WIDTH), f);
    best = better(best, 4u * (i + 6u * WIDTH), g);
    best = better(best, 4u * (i + 7u * WIDTH), h);
  }
  let top = workgroup_max(lane, best.x);
  let id = NONE - workgroup_max(lane, select(0u, NONE - best.y, best.x == top));
  if (option_f32(TEMPERATURE) <= 0.0) {
    if (lane == 0u) { ids[0] = id; }
    return;
  }
  let highest = logit(id);
  let k = options[TOP_K];
  var count = NONE;
  if (k > 0u && k <= WIDTH) { count = list_large(lane, k, best.x); }
  if (count <= LIST) {
    count = keep_largest(lane, k, count);
  } else {
    var kth = vec2(0u, 0u);
    if (k > 0u && k < params.vocab) { kth = kth_largest(lane, k); }
    count = list_candidates(lane, kth.x, kth.y);
  }
  storageBarrier();
  var threshold = 0u;
  let top_p = option_f32(TOP_P);
  if (top_p < 1.0) { threshold = top_p_threshold(lane, count, highest, top_p); }
  draw(lane, count, highest, threshold, highest + option_f32(MIN_P_LOG));
}
