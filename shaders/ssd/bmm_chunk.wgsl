// cb[chunk, g, i, j] = C_i · B_j over d_state, for the tokens i, j of a chunk (arXiv 2405.21060 §6, step 1: C Bᵀ).
// A workgroup per (group g, chunk of at most 64); 16 state columns staged at a time (shared/products.wgsl): C left, B right.
struct Params { groups: u32, d_state: u32, inner: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> xbc: array<f32>;          // (tokens, inner + 2·G·N): x | B | C
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> cb: array<f32>;     // (chunks·G·chunk, chunk)

// Column k of the C and the B of every eighth token.
fn load(c_at: u32, k: u32) -> Next {
  let stride = 8u * row_stride(params.inner + 2u * params.groups * params.d_state);
  return Next(xbc8(c_at + k, stride), xbc8(c_at - params.groups * params.d_state + k, stride));
}

@compute @workgroup_size(8, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(local_invocation_id) local: vec3<u32>) {
  let begin = group.y * params.chunk;
  let length = min(params.chunk, control[TOKENS] - begin);
  let stride = row_stride(params.inner + 2u * params.groups * params.d_state);
  let c_at = (begin + first_row(lane)) * stride + params.inner + (params.groups + group.x) * params.d_state;
  let tokens = count_to(length, first_row(lane), 8u);
  sums = array<vec4<f32>, 8>();
  var next = load(c_at, column_step(lane));
  for (var k = 0u; k < params.d_state; k += STEP) {
    let count = select(0u, tokens, k + column_step(lane) < params.d_state);
    put_steps(LEFT, lane, only(count, next.left));
    put_steps(RIGHT, lane, only(count, next.right));
    workgroupBarrier();
    next = load(c_at, k + STEP + column_step(lane));
    multiply_all(local);
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i += 1u) {
    let row = local.y * 4u + i;
    if (row < params.chunk) {
      let base = ((group.y * params.groups + group.x) * params.chunk + row) * row_stride(params.chunk);
      for (var j = 0u; j < 8u; j += 1u) {
        let column = column_of(local, j);
        if (column < params.chunk) { cb[base + column] = select(0.0, sum_of(i, j), column <= row && row < length); }
      }
    }
  }
}
