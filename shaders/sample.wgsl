// Picks the next token: repeat penalty → top-k → top-p → min-p → temperature → draw, llama.cpp's order, without a sort.
//   top-k: k largest lie at or above the k-th largest of the invocations' own maxima, so the few logits there are listed and
//          ranked, and each invocation has one of them. Where they are too many, or k is: a radix select over the bit patterns
//          (four histograms of 256 bins) finds the k-th, and what follows goes through a list of any length
//   top-p: the largest threshold whose mass is still ≥ top_p; of a long list by a search over bit patterns
//   draw:  the kept tokens in order of their ids, the first whose cumulative weight exceeds u · total
// The session's logits stay as they are: a token that nobody took can be drawn again. One workgroup; what top-k kept is put in
// order, so that nothing depends on timing. With MAXIMA `logit_maxima` has looked at the logits before it.
//
// Behind a model that is larger than the caches every instruction comes from memory, which takes longer than what it does: so the
// usual way, up to `draw_kept`, has each loop once and nothing written out.
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
// Ids and keys of the logits that may be among the k largest, in any order; `list_kept` is of parts that may have some.
var<workgroup> noted: atomic<u32>;
var<workgroup> listed: atomic<u32>;
// Of keys the largest, NONE less the lowest id that has it; the key that top-p ends with; the id that is drawn.
var<workgroup> top: atomic<u32>;
var<workgroup> top_id: atomic<u32>;
var<workgroup> enough: atomic<u32>;
var<workgroup> picked: atomic<u32>;
var<workgroup> list_ids: array<u32, LIST>;
var<workgroup> list_keys: array<u32, LIST>;
var<workgroup> list_kept: array<u32, LIST>;
// The k largest of them in order.
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
fn parts() -> u32 {
  if (!MAXIMA) { return WIDTH; }
  return (params.vocab + 32u * PART - 1u) / (32u * PART) * PART;
}

fn part_four(part: u32, i: u32) -> u32 {
  if (!MAXIMA) { return part + i * WIDTH; }
  return part / PART * 8u * PART + part % PART + i * PART;
}

// The largest key of this invocation's parts, and the lowest id that has it, or with MAXIMA the part.
fn own_best(lane: u32) -> vec2<u32> {
  if (!MAXIMA) { return best_of(lane, WIDTH); }
  var best = vec2(0u, 0u);
  for (var i = lane; i < parts(); i += WIDTH) {
    let x = candidates[i];
    best = select(best, vec2(x, i), x > best.x);
  }
  return best;
}

// The k-th largest of the invocations' own maxima (`best` is this one's).
fn kth_of_maxima(lane: u32, k: u32, best: u32) -> u32 {
  words[lane] = best;
  workgroupBarrier();
  var before = vec4(0u);
  for (var i = 0u; i < max(k, WIDTH); i += 4u) { // WIDTH, but a compiler that knows writes all rounds out
    let a = vec4(words[i], words[i + 1u], words[i + 2u], words[i + 3u]);
    let own = vec4(lane) > vec4(i) + vec4(0u, 1u, 2u, 3u);
    before += select(vec4(0u), vec4(1u), (a > vec4(best)) | ((a == vec4(best)) & own));
  }
  if (dot(before, vec4(1u)) == k - 1u) { chosen.x = best; }
  workgroupBarrier();
  return chosen.x;
}

// Lists what is not below `least`. Returns how many there are, or more than there is room for.
fn list_large(lane: u32, least: u32, best: u32) -> u32 {
  // Parts of which the largest is not below it, few of them, then what is in those, an invocation a logit.
  for (var i = lane; i < parts(); i += WIDTH) {
    var x = best;
    if (MAXIMA) { x = candidates[i]; }
    if (x >= least) {
      let at = atomicAdd(&noted, 1u);
      if (at < LIST) { list_kept[at] = i; }
    }
  }
  workgroupBarrier();
  for (var i = lane; i < 32u * min(atomicLoad(&noted), LIST); i += WIDTH) {
    let id = 4u * part_four(list_kept[i / 32u], i / 4u % 8u) + i % 4u;
    let x = key(logit(min(id, params.vocab - 1u)));
    if (x >= least && id < params.vocab) {
      let at = atomicAdd(&listed, 1u);
      if (at < LIST) {
        list_ids[at] = id;
        list_keys[at] = x;
      }
    }
  }
  workgroupBarrier();
  // Barriers follow that depend on it, so it must be seen to be the same everywhere.
  if (lane == 0u) { chosen.y = select(atomicLoad(&listed), NONE, atomicLoad(&noted) > LIST); }
  return workgroupUniformLoad(&chosen).y;
}

// Keeps the k largest of the `count` listed, k at most WIDTH, in order, of equal ones those with the lowest ids. Returns how many.
fn keep_largest(lane: u32, k: u32, count: u32) -> u32 {
  for (var i = lane; i < count; i += WIDTH) {
    let x = list_keys[i];
    let id = list_ids[i];
    var before = 0u;
    for (var j = 0u; j < count; j += 1u) {
      let y = list_keys[j];
      before += select(0u, 1u, y > x || (y == x && list_ids[j] < id));
    }
    if (before < k) {
      kept_ids[before] = id;
      kept_keys[before] = x;
    }
  }
  workgroupBarrier();
  return min(k, count);
}

// Top-p and the draw where every invocation has one of the kept at most.
fn draw_kept(lane: u32, count: u32, highest: f32, u: f32) {
  let own = select(0u, kept_keys[lane], lane < count);
  let x = unkey(own);
  let id = kept_ids[lane];
  let top_p = option_f32(TOP_P);
  var threshold = 0u;
  if (top_p < 1.0) {
    sums[lane] = exp(max(x - highest, -80.0));
    workgroupBarrier();
    var all = 0.0;
    var mass = 0.0;
    for (var i = 0u; i < count; i += 1u) {
      all += sums[i];
      mass += select(0.0, sums[i], kept_keys[i] >= own);
    }
    if (lane < count && mass >= top_p * all) { atomicMax(&enough, own); }
    workgroupBarrier();
    threshold = min(atomicLoad(&enough), key(highest)); // with top_p ≤ 0 no mass at all would do
  }
  let stays = lane < count && own >= threshold && x >= highest + option_f32(MIN_P_LOG);
  sums[lane] = select(0.0, exp(max((x - highest) / option_f32(TEMPERATURE), -80.0)), stays);
  workgroupBarrier();
  var before = 0.0;
  var total = 0.0;
  for (var i = 0u; i < count; i += 1u) {
    total += sums[i];
    before += select(0.0, sums[i], kept_ids[i] < id);
  }
  // Of those at or below the mark that has the highest id; the lowest is there whatever sums round to.
  let mark = u * total;
  if (stays && before <= mark) { atomicMax(&picked, id); }
  workgroupBarrier();
  if (lane == 0u) { ids[0] = atomicLoad(&picked); }
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

fn draw(lane: u32, count: u32, highest: f32, threshold: u32, least: f32, u: f32) {
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
  if (lane == 0u) {
    atomicStore(&noted, 0u);
    atomicStore(&listed, 0u);
    atomicStore(&top, 0u);
    atomicStore(&top_id, 0u);
    atomicStore(&enough, 0u);
    atomicStore(&picked, 0u);
  }
  let u = uniform_at(options[SEED_LO], options[SEED_HI], control[CONSUMED]); // now, while logits are on their way
  let best = own_best(lane);
  workgroupBarrier();
  atomicMax(&top, best.x);
  workgroupBarrier();
  let highest = unkey(atomicLoad(&top));
  if (option_f32(TEMPERATURE) <= 0.0) {
    if (best.x == atomicLoad(&top)) {
      var id = best.y;
      if (MAXIMA) { id = candidates[parts() + id]; }
      atomicMax(&top_id, NONE - id);
    }
    workgroupBarrier();
    if (lane == 0u) { ids[0] = NONE - atomicLoad(&top_id); }
    return;
  }
  let k = options[TOP_K];
  if (k > 0u && k <= WIDTH) {
    let found = list_large(lane, kth_of_maxima(lane, k, best.x), best.x);
    if (found <= LIST) {
      draw_kept(lane, keep_largest(lane, k, found), highest, u);
      return;
    }
  }
  var kth = vec2(0u, 0u);
  if (k > 0u && k < params.vocab) { kth = kth_largest(lane, k); }
  storageBarrier(); // the list takes the place of the maxima
  let count = list_candidates(lane, kth.x, kth.y);
  storageBarrier();
  var threshold = 0u;
  let top_p = option_f32(TOP_P);
  if (top_p < 1.0) { threshold = top_p_threshold(lane, count, highest, top_p); }
  draw(lane, count, highest, threshold, highest + option_f32(MIN_P_LOG), u);
}
