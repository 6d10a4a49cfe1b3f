// Logits as a sampler looks at them: after the repeat penalty, as keys, eight fours at a time. The body binds `source`,
// `adjusted`, `recent`, `control` and `options`, and has `params.vocab` and `params.recent`.
const TEMPERATURE = 0u; // f32 bits; ≤ 0 is greedy
const TOP_K = 1u;
const TOP_P = 2u;       // f32 bits
const MIN_P_LOG = 3u;   // f32 bits of ln(min_p), hugely negative when off
const PENALTY = 4u;     // f32 bits
const LAST_N = 5u;
const SEED_LO = 6u;
const SEED_HI = 7u;
const PART = 128u;      // invocations of a workgroup of `logit_maxima`
const NONE = 0xffffffffu;

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

// A u32 that orders as the float does, and the float.
fn key(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn unkey(x: u32) -> f32 { return bitcast<f32>(select(~x, x & 0x7fffffffu, (x >> 31u) == 1u)); }

fn keys(v: vec4<f32>) -> vec4<u32> { return vec4(key(v.x), key(v.y), key(v.z), key(v.w)); }

// Penalises those of the recent tokens that are ids from `begin` to `end`, each once, in the copy.
fn penalise(lane: u32, width: u32, begin: u32, end: u32) {
  let penalty = option_f32(PENALTY);
  let count = min(options[LAST_N], min(control[CONSUMED], params.recent));
  for (var i = lane; i < count; i += width) {
    let id = recent[(control[CONSUMED] - 1u - i) % params.recent];
    var first = id >= begin && id < min(end, params.vocab);
    for (var j = 0u; j < i && first; j += 1u) {
      first = recent[(control[CONSUMED] - 1u - j) % params.recent] != id;
    }
    if (first) {
      let x = source[id / 4u][id % 4u];
      adjusted[id / 4u][id % 4u] = select(x / penalty, x * penalty, x <= 0.0);
    }
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

// The largest key of eight fours, which come together, and the lowest id that has it; 0 and NONE where there is no logit.
fn best_of(i: u32, stride: u32) -> vec2<u32> {
  let a = four(i);
  let b = four(i + stride);
  let c = four(i + 2u * stride);
  let d = four(i + 3u * stride);
  let e = four(i + 4u * stride);
  let f = four(i + 5u * stride);
  let g = four(i + 6u * stride);
  let h = four(i + 7u * stride);
  var best = better(vec2(0u, NONE), 4u * i, a);
  best = better(best, 4u * (i + stride), b);
  best = better(best, 4u * (i + 2u * stride), c);
  best = better(best, 4u * (i + 3u * stride), d);
  best = better(best, 4u * (i + 4u * stride), e);
  best = better(best, 4u * (i + 5u * stride), f);
  best = better(best, 4u * (i + 6u * stride), g);
  return better(best, 4u * (i + 7u * stride), h);
}
