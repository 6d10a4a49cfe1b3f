// cb[chunk, g, i, j] = C_i · B_j over d_state, for the tokens i, j of a chunk (arXiv 2405.21060 §6, step 1: C Bᵀ).
// A workgroup per (group g, chunk of at most 64); 16 state columns staged at a time (shared/products.wgsl): C left, B right.
struct Params { groups: u32, d_state: u32, inner: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> xbc: array<f32>;          // (tokens, inner + 2·G·N): x | B | C
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> cb: array<f32>;     // (chunks·G·chunk, chunk)

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  let begin = group.y * params.chunk;
  let length = min(params.chunk, control[TOKENS] - begin);
  let stride = row_stride(params.inner + 2u * params.groups * params.d_state);
  let b_at = params.inner + group.x * params.d_state;
  let c_at = b_at + params.groups * params.d_state;
  sums = array<vec4<f32>, 4>();
  for (var k = 0u; k < params.d_state; k += STEP) {
    for (var i = lane; i < TILE * STEP; i += 256u) {
      let token = i / STEP;
      let column = k + i % STEP;
      let inside = token < length && column < params.d_state;
      let base = (begin + select(0u, token, inside)) * stride + select(0u, column, inside);
      left[(i % STEP) * QUADS + token / 4u][token % 4u] = select(0.0, xbc[base + c_at], inside);
      right[(i % STEP) * QUADS + token / 4u][token % 4u] = select(0.0, xbc[base + b_at], inside);
    }
    workgroupBarrier();
    multiply_all(local);
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i += 1u) {
    let row = local.y * 4u + i;
    if (row < params.chunk) {
      let base = ((group.y * params.groups + group.x) * params.chunk + row) * row_stride(params.chunk);
      for (var j = 0u; j < 4u; j += 1u) {
        let column = local.x * 4u + j;
        if (column < params.chunk) { cb[base + column] = select(0.0, sums[i][j], column <= row && row < length); }
      }
    }
  }
}
