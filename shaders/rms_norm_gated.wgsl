// The gated norm of Mamba-2 over groups of `cols / groups` channels (arXiv 2405.21060 §7; z is a slice of the in_proj output,
// times z_scale):
//   MODE 0 norm after gate:  r = y · silu(z); out = r / rms(r) · norm
//   MODE 1 norm before gate: out = y / rms(y) · norm · silu(z)
//   MODE 2 gate only:        out = y · silu(z)
// A workgroup per (group, token).
struct Params { cols: u32, groups: u32, z_cols: u32, z_at: u32, eps: f32, z_scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> norm: array<f32>;       // (cols)
@group(1) @binding(0) var<storage, read> y: array<f32>;          // (tokens, cols)
@group(1) @binding(1) var<storage, read> z: array<f32>;          // (tokens, z_cols), z at column z_at
@group(1) @binding(2) var<storage, read_write> out: array<f32>;  // (tokens, cols)

override MODE: u32 = 0u;
const WIDTH = 256u;
const SUMS = 16u; // of as many
var<workgroup> partial: array<f32, WIDTH>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let size = params.cols / params.groups;
  let first = group.x * size;
  let y_base = group.y * row_stride(params.cols) + first;
  let z_base = group.y * row_stride(params.z_cols) + params.z_at + first;
  var sum = 0.0;
  for (var i = local.x; i < size; i += WIDTH) {
    var v = y[y_base + i];
    if (MODE == 0u) { v *= silu(params.z_scale * z[z_base + i]); }
    sum += v * v;
  }
  partial[local.x] = sum;
  workgroupBarrier();
  sum = 0.0;
  if (local.x < SUMS) {
    for (var i = local.x; i < WIDTH; i += SUMS) { sum += partial[i]; }
    partial[local.x] = sum;
  }
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < SUMS; i += 1u) { sum += partial[i]; }
  let scale = inverseSqrt(sum / f32(size) + params.eps);
  for (var i = local.x; i < size; i += WIDTH) {
    let gated = y[y_base + i] * silu(params.z_scale * z[z_base + i]);
    if (MODE == 2u) {
      out[y_base + i] = gated;
    } else {
      out[y_base + i] = gated * scale * norm[first + i];
    }
  }
}
