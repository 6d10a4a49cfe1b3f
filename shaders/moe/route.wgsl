// Which experts a token goes to, and with what weights: the TOP best of `experts` scores, found one after the other.
//   SOFTMAX  score = logit; weights = softmax over the chosen logits
//   SIGMOID  score = sigmoid(logit) + correction; only experts of the `kept` best groups may be chosen, a group's rank being the
//            sum of its two best scores; weights = sigmoid(logit), divided by their sum + 1e-20 with NORMALISE; times scale
// Of equal scores the first is taken. An invocation per token.
struct Params { experts: u32, groups: u32, kept: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> correction: array<f32>;        // (experts) if SIGMOID
@group(1) @binding(0) var<storage, read> logits: array<f32>;            // (tokens, experts)
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> routes: array<u32>;      // (tokens, TOP) pairs: expert, weight (f32 bits)

override SIGMOID: bool = false;
override NORMALISE: bool = true;
override TOP: u32 = 2u;
const LOWEST = -1e30;

fn logit(t: u32, e: u32) -> f32 { return logits[t * row_stride(params.experts) + e]; }

fn score(t: u32, e: u32) -> f32 {
  if (SIGMOID) { return sigmoid(logit(t, e)) + correction[e]; }
  return logit(t, e);
}

// Rank of a group: its two best scores together.
fn group_rank(t: u32, g: u32) -> f32 {
  let size = params.experts / params.groups;
  var first = LOWEST;
  var second = LOWEST;
  for (var e = g * size; e < (g + 1u) * size; e += 1u) {
    let s = score(t, e);
    second = max(second, min(first, s));
    first = max(first, s);
  }
  return first + second;
}

// The groups to choose from, a bit for each.
fn open_groups(t: u32) -> u32 {
  if (params.kept == params.groups) { return 0xffffffffu; }
  var open = 0u;
  for (var i = 0u; i < params.kept; i += 1u) {
    var best = 0u;
    var highest = LOWEST;
    for (var g = 0u; g < params.groups; g += 1u) {
      let rank = group_rank(t, g);
      if ((open & (1u << g)) == 0u && rank > highest) {
        highest = rank;
        best = g;
      }
    }
    open |= 1u << best;
  }
  return open;
}

fn is_chosen(at: u32, count: u32, e: u32) -> bool {
  for (var i = 0u; i < count; i += 1u) {
    if (routes[at + 2u * i] == e) { return true; }
  }
  return false;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = id.x;
  if (t >= control[TOKENS]) { return; }
  let at = t * 2u * TOP;
  let open = open_groups(t);
  let size = params.experts / params.groups;
  var total = 0.0;
  var highest = 0.0;
  for (var i = 0u; i < TOP; i += 1u) {
    var best = 0u;
    var most = LOWEST;
    for (var e = 0u; e < params.experts; e += 1u) {
      let s = score(t, e);
      if (s > most && (open & (1u << (e / size))) != 0u && !is_chosen(at, i, e)) {
        most = s;
        best = e;
      }
    }
    if (i == 0u) { highest = most; }
    var weight = sigmoid(logit(t, best));
    if (!SIGMOID) { weight = exp(most - highest); }
    total += weight;
    routes[at + 2u * i] = best;
    routes[at + 2u * i + 1u] = bitcast<u32>(weight);
  }
  var factor = params.scale;
  if (NORMALISE) { factor /= total + 1e-20; }
  for (var i = 0u; i < TOP; i += 1u) {
    let weight = bitcast<f32>(routes[at + 2u * i + 1u]);
    routes[at + 2u * i + 1u] = bitcast<u32>(weight * factor);
  }
}
