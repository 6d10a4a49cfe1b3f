// Carries the state across the chunks of a segment (arXiv 2405.21060 §6, step 3): states[chunk] becomes the state at the
// chunk's start, and the session's state goes from entry to exit: S ← exp(prefix of the chunk's last token)·S + states[chunk].
// An invocation per state element (h, p, n), serial over the few chunks.
struct Params { heads: u32, head_dim: u32, d_state: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> da: array<f32>;             // (tokens, 4·H): dt | dA | prefix | suffix
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> states: array<f32>;   // (chunks·H·P, N)
@group(1) @binding(3) var<storage, read_write> ssm: array<f32>;      // (H·P, N)

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let n = group.x * 64u + local.x;
  let row = group.y; // h·P + p
  if (n >= params.d_state) { return; }
  let rows = params.heads * params.head_dim;
  let head = row / params.head_dim;
  let stride = row_stride(params.d_state);
  let tokens = control[TOKENS];
  var carry = ssm[row * stride + n];
  var chunk = 0u;
  for (var begin = 0u; begin < tokens; begin += params.chunk) {
    let last = min(begin + params.chunk, tokens) - 1u;
    let decay = exp(da[last * row_stride(4u * params.heads) + 2u * params.heads + head]);
    let at = (chunk * rows + row) * stride + n;
    let added = states[at];
    states[at] = carry;
    carry = decay * carry + added;
    chunk += 1u;
  }
  ssm[row * stride + n] = carry;
}
