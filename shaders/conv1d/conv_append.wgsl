// conv_state[position % taps, c] = raw[t, c] for the last min(tokens, taps) tokens of a segment: what the next segment's
// convolution looks back at. A dispatch of its own, because the convolution still reads the old rows.
// An invocation per channel, a workgroup row per slot.
struct Params { channels: u32, taps: u32, raw_cols: u32, raw_at: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> raw: array<f32>;               // (tokens, raw_cols)
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> conv_state: array<f32>;  // (taps, channels)

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let channel = group.x * 64u + local.x;
  let tokens = control[TOKENS];
  if (channel >= params.channels || group.y >= tokens) { return; }
  let t = tokens - 1u - group.y;
  let slot = (first_position() + t) % params.taps;
  conv_state[slot * row_stride(params.channels) + channel] = raw[t * row_stride(params.raw_cols) + params.raw_at + channel];
}
