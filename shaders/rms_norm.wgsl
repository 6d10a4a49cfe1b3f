// out[t, :] = x[t, :] / sqrt(mean(x[t, :]²) + eps) · norm. A workgroup per token.
struct Params { cols: u32, eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> norm: array<vec4<f32>>;       // (cols)
@group(1) @binding(0) var<storage, read> x: array<vec4<f32>>;          // (tokens, cols)
@group(1) @binding(1) var<storage, read_write> out: array<vec4<f32>>;  // (tokens, cols)

const WIDTH = 64u;
var<workgroup> partial: array<f32, WIDTH>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let fours = row_stride(params.cols) / 4u;
  let base = group.y * fours;
  var sum = 0.0;
  for (var i = local.x; i < fours; i += WIDTH) {
    let v = x[base + i];
    sum += dot(v, v); // the padding is zero
  }
  if (SUBGROUP > 0u) { sum = subgroup_sum(vec4(sum), 4u).x; }
  partial[local.x] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < WIDTH; i += 4u) { // fours, then one after another
    var four = partial[i];
    if (SUBGROUP == 0u) { four += partial[i + 1u] + partial[i + 2u] + partial[i + 3u]; }
    sum += four;
  }
  let scale = inverseSqrt(sum / f32(params.cols) + params.eps);
  for (var i = local.x; i < fours; i += WIDTH) {
    out[base + i] = x[base + i] * scale * norm[i];
  }
}
