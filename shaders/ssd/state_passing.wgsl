// Carries the state across the chunks of a segment (arXiv 2405.21060 §6, step 3): states[chunk] becomes the state at the
// chunk's start, and the session's state goes from entry to exit: S ← exp(prefix of the chunk's last token)·S + states[chunk].
// An invocation per four state elements (h, p, n … n + 3), serial over the few chunks; what the next one adds is loaded before
// this one's is used.
struct Params { heads: u32, head_dim: u32, d_state: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> da: array<f32>;                 // (tokens, 4·H): dt | dA | prefix | suffix
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> states: array<vec4<f32>>; // (chunks·H·P, N)
@group(1) @binding(3) var<storage, read_write> ssm: array<vec4<f32>>;    // (H·P, N)

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let width = row_stride(params.d_state) / 4u;
  let step = params.heads * params.head_dim * width; // from a chunk to the next
  if (id.x >= step) { return; }
  let head = id.x / width / params.head_dim;
  let tokens = control[TOKENS];
  var carry = ssm[id.x];
  var at = id.x;
  var added = states[at];
  for (var begin = 0u; begin < tokens; begin += params.chunk) {
    let end = min(begin + params.chunk, tokens);
    let next = states[select(at, at + step, end < tokens)];
    let decay = exp(da[(end - 1u) * row_stride(4u * params.heads) + 2u * params.heads + head]);
    states[at] = carry;
    carry = decay * carry + added;
    added = next;
    at += step;
  }
  ssm[id.x] = carry;
}
