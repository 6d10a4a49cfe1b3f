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

var<workgroup> decays: array<f32, TILE>; // dA of the chunk's tokens

fn inner() -> u32 { return params.heads * params.head_dim; }
fn stride() -> u32 { return row_stride(inner() + 2u * params.groups * params.d_state); }

fn stage_states(lane: u32, head: u32, chunk: u32, begin: u32, length: u32, p0: u32, n0: u32) {
  let c_at = inner() + (params.groups + head / (params.heads / params.groups)) * params.d_state;
  for (var e = lane; e < TILE * STEP; e += 256u) {
    let n = n0 + e % STEP;
    let row = e / STEP; // a token i for `left`, a channel p for `right`
    var c = 0.0;
    var s = 0.0;
    if (n < params.d_state) {
      if (row < length) {
        let prefix = da[(begin + row) * row_stride(4u * params.heads) + 2u * params.heads + head];
        c = exp(prefix) * xbc[(begin + row) * stride() + c_at + n];
      }
      if (p0 + row < params.head_dim) {
        s = states[((chunk * params.heads + head) * params.head_dim + p0 + row) * row_stride(params.d_state) + n];
      }
    }
    left[(e % STEP) * QUADS + row / 4u][row % 4u] = c;
    right[(e % STEP) * QUADS + row / 4u][row % 4u] = s;
  }
}

// Tokens j0 … j0 + 15 for all rows i; `tail` is Σ dA over (j0 + 15, i] and comes back as the sum over (j0 − 1, i].
// Four invocations share a row i, each with four of the sixteen j.
fn stage_tokens(lane: u32, head: u32, chunk: u32, begin: u32, length: u32, p0: u32, j0: u32, tail: f32) -> f32 {
  let i = lane / 4u;
  let group = head / (params.heads / params.groups);
  let cb_base = ((chunk * params.groups + group) * params.chunk + i) * row_stride(params.chunk);
  var sum = tail;
  for (var s = STEP; s > 0u; s -= 1u) {
    let j = j0 + s - 1u;
    if ((s - 1u) / 4u == lane % 4u) {
      var m = 0.0;
      if (j <= i && i < length) {
        m = exp(sum) * cb[cb_base + j] * da[(begin + j) * row_stride(4u * params.heads) + head];
      }
      left[(s - 1u) * QUADS + i / 4u][i % 4u] = m;
    }
    if (j <= i && j < length) { sum += decays[j]; }
  }
  for (var e = lane; e < TILE * STEP; e += 256u) {
    let j = j0 + e / TILE;
    let p = p0 + e % TILE;
    var x = 0.0;
    if (j < length && p < params.head_dim) { x = xbc[(begin + j) * stride() + head * params.head_dim + p]; }
    right[e / TILE * QUADS + e % TILE / 4u][e % 4u] = x;
  }
  return sum;
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  let head = group.z;
  let p0 = group.x * TILE;
  let begin = group.y * params.chunk;
  let length = min(params.chunk, control[TOKENS] - begin);
  if (lane < length) { decays[lane] = da[(begin + lane) * row_stride(4u * params.heads) + params.heads + head]; }
  sums = array<vec4<f32>, 4>();
  var tail = 0.0;
  let state_steps = (params.d_state + STEP - 1u) / STEP;
  let token_steps = (length + STEP - 1u) / STEP;
  for (var step = 0u; step < state_steps + token_steps; step += 1u) {
    workgroupBarrier();
    if (step < state_steps) {
      stage_states(lane, head, group.y, begin, length, p0, step * STEP);
    } else {
      let j0 = (state_steps + token_steps - 1u - step) * STEP;
      tail = stage_tokens(lane, head, group.y, begin, length, p0, j0, tail);
    }
    workgroupBarrier();
    multiply_all(local);
  }
  let d = per_head[2u * params.heads + head];
  for (var i = 0u; i < 4u; i += 1u) {
    let row = local.y * 4u + i;
    for (var j = 0u; j < 4u; j += 1u) {
      let p = p0 + local.x * 4u + j;
      if (row < length && p < params.head_dim) {
        let channel = head * params.head_dim + p;
        y[(begin + row) * row_stride(inner()) + channel] = sums[i][j] + d * xbc[(begin + row) * stride() + channel];
      }
    }
  }
}
