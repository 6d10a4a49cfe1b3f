// Step sizes and decays of a segment, chunk by chunk (arXiv 2405.21060 §6):
//   dt = clamp(softplus(dt_scale·dt_raw + dt_bias))
//   da[t] = dt | dA = −dt·exp(A_log) | prefix = Σ dA from the chunk's start to t | suffix = Σ dA after t in the chunk
// Both sums are sums over the segment itself, never differences of long cumulative sums. An invocation per (head, chunk).
struct Params { heads: u32, chunk: u32, raw_cols: u32, raw_at: u32, dt_scale: f32, dt_min: f32, dt_max: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> per_head: array<f32>;     // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) var<storage, read> raw: array<f32>;          // (tokens, raw_cols), dt at column raw_at
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> da: array<f32>;     // (tokens, 4·H)

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let head = group.x * 64u + local.x;
  if (head >= params.heads) { return; }
  let begin = group.y * params.chunk;
  let end = min(begin + params.chunk, control[TOKENS]);
  let stride = row_stride(4u * params.heads);
  let a = -exp(per_head[params.heads + head]);
  var sum = 0.0;
  for (var t = begin; t < end; t += 1u) {
    let x = params.dt_scale * raw[t * row_stride(params.raw_cols) + params.raw_at + head] + per_head[head];
    let dt = clamp(softplus(x), params.dt_min, params.dt_max);
    sum += dt * a;
    da[t * stride + head] = dt;
    da[t * stride + params.heads + head] = dt * a;
    da[t * stride + 2u * params.heads + head] = sum;
  }
  sum = 0.0;
  for (var t = end; t > begin; t -= 1u) {
    da[(t - 1u) * stride + 3u * params.heads + head] = sum;
    sum += da[(t - 1u) * stride + params.heads + head];
  }
}
