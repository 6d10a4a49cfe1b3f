// What each chunk adds to the state (arXiv 2405.21060 §6, step 2):
//   states[chunk, h, p, n] = Σ_t exp(suffix_t) · dt_t · x_t[h, p] · B_t[g, n]
// A workgroup per (tile of 64 p by 64 n, chunk, head); 16 tokens staged at a time (shared/products.wgsl): weighted x left, B
// right.
struct Params { heads: u32, head_dim: u32, groups: u32, d_state: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> xbc: array<f32>;            // (tokens, H·P + 2·G·N): x | B | C
@group(1) @binding(1) var<storage, read> da: array<f32>;             // (tokens, 4·H): dt | dA | prefix | suffix
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read_write> states: array<f32>;   // (chunks·H·P, N)

var<workgroup> weights: array<f32, TILE>; // exp(suffix)·dt of the chunk's tokens

// Channel p and state column n of token t and every other after it.
fn load(head: u32, t: u32, p: u32, n: u32) -> Next {
  let inner = params.heads * params.head_dim;
  let stride = row_stride(inner + 2u * params.groups * params.d_state);
  let b_at = inner + (head / (params.heads / params.groups)) * params.d_state;
  return Next(xbc8(t * stride + head * params.head_dim + p, 2u * stride), xbc8(t * stride + b_at + n, 2u * stride));
}

// Of token t of the chunk and every other after it.
fn weigh(t: u32, v: Eight) -> Eight {
  let lo = vec4(weights[t], weights[t + 2u], weights[t + 4u], weights[t + 6u]);
  let hi = vec4(weights[t + 8u], weights[t + 10u], weights[t + 12u], weights[t + 14u]);
  return Eight(lo * v.lo, hi * v.hi);
}

@compute @workgroup_size(8, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  let head = group.z;
  let tiles = (params.d_state + TILE - 1u) / TILE;
  let p0 = (group.x / tiles) * TILE;
  let n0 = (group.x % tiles) * TILE;
  let begin = group.y * params.chunk;
  let end = min(begin + params.chunk, control[TOKENS]);
  let length = end - begin;
  if (lane < length) {
    let at = (begin + lane) * row_stride(4u * params.heads) + head;
    weights[lane] = da[at] * exp(da[at + 3u * params.heads]);
  }
  let p = p0 + own_row(lane);
  let n = n0 + own_row(lane);
  sums = array<vec4<f32>, 8>();
  var next = load(head, begin + own_step(lane), p, n);
  workgroupBarrier();
  for (var t = 0u; t < length; t += STEP) {
    let count = count_to(length, t + own_step(lane), 2u);
    put_rows(LEFT, lane, only(select(0u, count, p < params.head_dim), weigh(t + own_step(lane), next.left)));
    put_rows(RIGHT, lane, only(select(0u, count, n < params.d_state), next.right));
    workgroupBarrier();
    next = load(head, begin + t + STEP + own_step(lane), p, n);
    multiply_all(local);
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i += 1u) {
    let row = p0 + local.y * 4u + i;
    if (row < params.head_dim) {
      let base = ((group.y * params.heads + head) * params.head_dim + row) * row_stride(params.d_state);
      for (var j = 0u; j < 8u; j += 1u) {
        let column = n0 + column_of(local, j);
        if (column < params.d_state) { states[base + column] = sum_of(i, j); }
      }
    }
  }
}
