// Step sizes and decays of a segment, chunk by chunk (arXiv 2405.21060 §6):
//   dt = clamp(softplus(dt_scale·dt_raw + dt_bias))
//   da[t] = dt | dA = −dt·exp(A_log) | prefix = Σ dA from the chunk's start to t | suffix = Σ dA after t in the chunk
// Both sums are sums over the segment itself, never differences of long cumulative sums. A workgroup per (16 heads,
// chunk), an invocation for four tokens of a head.
struct Params { heads: u32, chunk: u32, raw_cols: u32, raw_at: u32, dt_scale: f32, dt_min: f32, dt_max: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> per_head: array<f32>;     // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) var<storage, read> raw: array<f32>;          // (tokens, raw_cols), dt at column raw_at
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> da: array<f32>;     // (tokens, 4·H)

const HEADS = 16u;
const RUNS = 16u; // of four tokens
var<workgroup> totals: array<f32, 256>; // Σ dA of each run [run][head]

@compute @workgroup_size(HEADS, RUNS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let head = min(group.x * HEADS + local.x, params.heads - 1u);
  let begin = group.y * params.chunk;
  let first = begin + 4u * local.y;
  let end = min(begin + params.chunk, control[TOKENS]);
  let stride = row_stride(4u * params.heads);
  let a = -exp(per_head[params.heads + head]);
  let raw_stride = row_stride(params.raw_cols);
  let at = first * raw_stride + params.raw_at + head;
  let loaded = vec4(raw[at], raw[at + raw_stride], raw[at + 2u * raw_stride], raw[at + 3u * raw_stride]);
  let x = params.dt_scale * loaded + per_head[head];
  var dt = clamp(vec4(softplus(x.x), softplus(x.y), softplus(x.z), softplus(x.w)), vec4(params.dt_min), vec4(params.dt_max));
  dt = select(vec4(0.0), dt, first + vec4(0u, 1u, 2u, 3u) < vec4(end));
  let d = dt * a;
  totals[local.y * HEADS + local.x] = d.x + d.y + d.z + d.w;
  workgroupBarrier();
  var before = 0.0;
  for (var run = 0u; run < local.y; run += 1u) { before += totals[run * HEADS + local.x]; }
  var after = 0.0;
  for (var run = RUNS - 1u; run > local.y; run -= 1u) { after += totals[run * HEADS + local.x]; }
  let prefix = before + vec4(d.x, d.x + d.y, d.x + d.y + d.z, d.x + d.y + d.z + d.w);
  let suffix = after + vec4(d.y + d.z + d.w, d.z + d.w, d.w, 0.0);
  if (group.x * HEADS + local.x >= params.heads) { return; }
  for (var i = 0u; i < min(4u, max(end, first) - first); i += 1u) {
    let row = (first + i) * stride + head;
    da[row] = dt[i];
    da[row + params.heads] = d[i];
    da[row + 2u * params.heads] = prefix[i];
    da[row + 3u * params.heads] = suffix[i];
  }
}
