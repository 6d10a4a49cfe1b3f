// The gate of a selective attention layer (arXiv 2410.18572 eq. 1–3): s = W_g x + b_g, a token asks for attention iff s₁ > s₀,
// α = softmax(s)₁ = sigmoid(s₁ − s₀). A workgroup per token; masks hold the wish until `compact` has applied the bound.
struct Params { cols: u32, capacity: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<f32>;                  // norm (cols), W_g (2, cols), b_g (2)
@group(1) @binding(0) var<storage, read> x: array<f32>;                     // (tokens, cols), normed
@group(1) @binding(1) var<storage, read_write> selection: array<u32>;

const WIDTH = 64u;
var<workgroup> partial: array<vec2<f32>, WIDTH>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let base = group.y * row_stride(params.cols);
  var sum = vec2(0.0);
  for (var i = local.x; i < params.cols; i += WIDTH) {
    sum += x[base + i] * vec2(gate[params.cols + i], gate[2u * params.cols + i]);
  }
  partial[local.x] = sum;
  workgroupBarrier();
  if (local.x == 0u) {
    for (var i = 1u; i < WIDTH; i += 1u) { sum += partial[i]; }
    let s = sum + vec2(gate[3u * params.cols], gate[3u * params.cols + 1u]);
    selection[alpha_at(group.y)] = bitcast<u32>(sigmoid(s.y - s.x));
    selection[mask_at(group.y, params.capacity)] = select(0u, 1u, s.y > s.x);
  }
}
