// The outputs of a segment (arXiv 2405.21060 §6, step 4), for token i of a chunk and channel p of head h:
//   y_i = exp(prefix_i)·(S_in · C_i) + Σ_{j ≤ i} exp(Σ_{j < k ≤ i} dA_k)·(C_i·B_j)·dt_j·x_j + D·x_i
// A workgroup per (tile of 64 p, chunk, head). First S_in·C with 16 state columns staged at a time, then the inner sum with 16
// tokens j at a time, from the last to the first: each invocation that stages a row i keeps Σ dA from the block's end to i, so
// every exponent is a sum over its own segment. Tokens left, channels right (shared/products.wgsl).
struct Params { heads: u32, head_dim: u32, groups: u32, d_state: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> per_head: array<f32>;     // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) var<storage, read> xbc: array<f32>;          // (tokens, H·P + 2·G·N): x | B | C
@group(1) @binding(1) var<storage, read> da: array<f32>;           // (tokens, 4·H): dt | dA | prefix | suffix
@group(1) @binding(2) var<storage, read> cb: array<f32>;           // (chunks·G·chunk, chunk)
@group(1) @binding(3) var<storage, read> states: array<f32>;       // (chunks·H·P, N): the state at each chunk's start
@group(1) @binding(4) var<storage, read> control: array<u32>;
@group(1) @binding(5) var<storage, read_write> y: array<f32>;      // (tokens, H·P)

var<private> head: u32;
var<private> begin: u32;  // of the chunk
var<private> length: u32; // of the chunk
var<private> p0: u32;     // first channel of the tile

fn inner() -> u32 { return params.heads * params.head_dim; }
fn stride() -> u32 { return row_stride(inner() + 2u * params.groups * params.d_state); }
fn group() -> u32 { return head / (params.heads / params.groups); }

// Column n of C for every eighth token, and of the state of every eighth channel.
fn load_states(lane: u32, chunk: u32, n: u32) -> Next {
  let c_at = (begin + first_row(lane)) * stride() + inner() + (params.groups + group()) * params.d_state + n;
  let row = row_stride(params.d_state);
  let at = ((chunk * params.heads + head) * params.head_dim + p0 + first_row(lane)) * row + n;
  let lo = vec4(states[at], states[at + 8u * row], states[at + 16u * row], states[at + 24u * row]);
  let hi = vec4(states[at + 32u * row], states[at + 40u * row], states[at + 48u * row], states[at + 56u * row]);
  return Next(xbc8(c_at, 8u * stride()), Eight(lo, hi));
}

// Of the tokens j0 … j0 + 15: eight of C_i·B_j for one row i, and one channel of every other x_j.
fn load_tokens(lane: u32, chunk: u32, j0: u32) -> Next {
  let row = (chunk * params.groups + group()) * params.chunk + lane / 2u;
  let at = row * row_stride(params.chunk) + j0 + lane % 2u * 8u;
  let lo = vec4(cb[at], cb[at + 1u], cb[at + 2u], cb[at + 3u]);
  let hi = vec4(cb[at + 4u], cb[at + 5u], cb[at + 6u], cb[at + 7u]);
  let x_at = (begin + j0 + own_step(lane)) * stride() + head * params.head_dim + p0 + own_row(lane);
  return Next(Eight(lo, hi), xbc8(x_at, 2u * stride()));
}

// The steps go from the last to the first, so that `tail`, Σ dA over the tokens after a step's up to i, only grows.
fn load(lane: u32, chunk: u32, step: u32, state_steps: u32, steps: u32) -> Next {
  if (step < state_steps) { return load_states(lane, chunk, step * STEP + column_step(lane)); }
  return load_tokens(lane, chunk, (steps - 1u - min(step, steps - 1u)) * STEP);
}

// Puts eight steps from `at` on of row i.
fn put_row(at: u32, i: u32, v: Eight) {
  let first = LEFT + at * QUADS + i / 4u;
  staged[first][i % 4u] = v.lo.x;
  staged[first + QUADS][i % 4u] = v.lo.y;
  staged[first + 2u * QUADS][i % 4u] = v.lo.z;
  staged[first + 3u * QUADS][i % 4u] = v.lo.w;
  staged[first + 4u * QUADS][i % 4u] = v.hi.x;
  staged[first + 5u * QUADS][i % 4u] = v.hi.y;
  staged[first + 6u * QUADS][i % 4u] = v.hi.z;
  staged[first + 7u * QUADS][i % 4u] = v.hi.w;
}

// Puts tokens j0 … j0 + 15; `tail` is Σ dA over the tokens after them up to i and comes back with them in it.
fn put_tokens(lane: u32, j0: u32, tail: f32, next: Next) -> f32 {
  let i = lane / 2u;
  let late = lane % 2u == 1u; // the later eight of them
  let half = half_of(i, j0, late, tail);
  let m = Eight(half.weights.lo * next.left.lo, half.weights.hi * next.left.hi);
  put_row(select(0u, 8u, late), i, only(select(0u, count_to(i + 1u, 4u * half.quad, 1u), i < length), m));
  let count = count_to(length, j0 + own_step(lane), 2u);
  put_rows(RIGHT, lane, only(select(0u, count, p0 + own_row(lane) < params.head_dim), next.right));
  return half.tail;
}

// Puts columns n0 … n0 + 15 of C, times exp(prefix) of their tokens, and of the states.
fn put_states(lane: u32, n0: u32, next: Next) {
  let first = first_row(lane);
  let lo = vec4(decayed[first], decayed[first + 8u], decayed[first + 16u], decayed[first + 24u]) * next.left.lo;
  let hi = vec4(decayed[first + 32u], decayed[first + 40u], decayed[first + 48u], decayed[first + 56u]) * next.left.hi;
  let inside = n0 + column_step(lane) < params.d_state;
  put_steps(LEFT, lane, only(select(0u, count_to(length, first, 8u), inside), Eight(lo, hi)));
  put_steps(RIGHT, lane, only(select(0u, count_to(params.head_dim, p0 + first, 8u), inside), next.right));
}

@compute @workgroup_size(8, 16)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  head = id.z;
  p0 = id.x * TILE;
  let first = id.y * params.chunk;
  let tokens = min(params.chunk, control[TOKENS] - first); // not from `length`: loops with barriers end alike for all
  begin = first;
  length = tokens;
  if (lane < TILE) { put_decays(lane, (begin + lane) * row_stride(4u * params.heads) + head, params.heads, lane < length); }
  sums = array<vec4<f32>, 8>();
  var tail = 0.0;
  let state_steps = (params.d_state + STEP - 1u) / STEP;
  let steps = state_steps + (tokens + STEP - 1u) / STEP;
  var next = load(lane, id.y, 0u, state_steps, steps);
  for (var step = 0u; step < steps; step += 1u) {
    workgroupBarrier();
    if (step < state_steps) {
      put_states(lane, step * STEP, next);
    } else {
      tail = put_tokens(lane, (steps - 1u - step) * STEP, tail, next);
    }
    workgroupBarrier();
    next = load(lane, id.y, step + 1u, state_steps, steps);
    multiply_all(local);
  }
  let d = per_head[2u * params.heads + head];
  for (var i = 0u; i < 4u; i += 1u) {
    let row = local.y * 4u + i;
    for (var j = 0u; j < 8u; j += 1u) {
      let p = p0 + column_of(local, j);
      if (row < length && p < params.head_dim) {
        let channel = head * params.head_dim + p;
        y[(begin + row) * row_stride(inner()) + channel] = sum_of(i, j) + d * xbc[(begin + row) * stride() + channel];
      }
    }
  }
}
