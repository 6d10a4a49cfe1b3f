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

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  let head = group.z;
  let tiles = (params.d_state + TILE - 1u) / TILE;
  let p0 = (group.x / tiles) * TILE;
  let n0 = (group.x % tiles) * TILE;
  let begin = group.y * params.chunk;
  let end = min(begin + params.chunk, control[TOKENS]);
  let inner = params.heads * params.head_dim;
  let stride = row_stride(inner + 2u * params.groups * params.d_state);
  let da_stride = row_stride(4u * params.heads);
  let b_at = inner + (head / (params.heads / params.groups)) * params.d_state;
  sums = array<vec4<f32>, 4>();
  for (var t0 = begin; t0 < end; t0 += STEP) {
    for (var i = lane; i < TILE * STEP; i += 256u) {
      let t = t0 + i / TILE;
      let c = i % TILE;
      var x = 0.0;
      var b = 0.0;
      if (t < end) {
        if (p0 + c < params.head_dim) {
          let weight = da[t * da_stride + head] * exp(da[t * da_stride + 3u * params.heads + head]);
          x = weight * xbc[t * stride + head * params.head_dim + p0 + c];
        }
        if (n0 + c < params.d_state) { b = xbc[t * stride + b_at + n0 + c]; }
      }
      let at = i / TILE * QUADS + c / 4u;
      left[at][c % 4u] = x;
      right[at][c % 4u] = b;
    }
    workgroupBarrier();
    multiply_all(local);
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i += 1u) {
    let p = p0 + local.y * 4u + i;
    if (p < params.head_dim) {
      let base = ((group.y * params.heads + head) * params.head_dim + p) * row_stride(params.d_state);
      for (var j = 0u; j < 4u; j += 1u) {
        let n = n0 + local.x * 4u + j;
        if (n < params.d_state) { states[base + n] = sums[i][j]; }
      }
    }
  }
}
