// out[t, c] = silu(bias[c] + Σ_k weight[c, k] · raw[t − taps + 1 + k, c]): depthwise, causal, over some channels of a
// projection (x, B and C of a mixer; q, k and v of attention, without SILU). Rows before the segment come from the ring of raw rows (slot = position % taps, zero at the start).
// An invocation per channel and run of eight tokens, whose values move on by one from tap to tap: one is loaded for each.
struct Params { channels: u32, taps: u32, raw_cols: u32, raw_at: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> conv: array<f32>;            // weight (channels, taps), then bias (channels)
@group(1) @binding(0) var<storage, read> raw: array<f32>;             // (tokens, raw_cols), channels at column raw_at
@group(1) @binding(1) var<storage, read> conv_state: array<f32>;      // (taps, channels)
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read_write> out: array<f32>;       // (tokens, channels)

override SILU: bool = true;
const RUN = 8u;

// The raw value `back` tokens before token t of the segment, of which the first goes to slot `newest` of the ring.
fn tap(t: u32, back: u32, channel: u32, newest: u32) -> f32 {
  if (back <= t) { return raw[(t - back) * row_stride(params.raw_cols) + params.raw_at + channel]; }
  let age = back - t; // 1 … taps − 1 tokens before the segment
  let slot = newest + select(0u, params.taps, age > newest) - age;
  return conv_state[slot * row_stride(params.channels) + channel];
}

fn put(t: u32, channel: u32, sum: f32) {
  if (t < control[TOKENS]) { out[t * row_stride(params.channels) + channel] = select(sum, silu(sum), SILU); }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let channel = group.x * 64u + local.x;
  if (channel >= params.channels) { return; }
  let newest = first_position() % params.taps;
  let t0 = group.y * RUN;
  let stride = row_stride(params.raw_cols);
  let at = t0 * stride + params.raw_at + channel;
  var lo = vec4(raw[at], raw[at + stride], raw[at + 2u * stride], raw[at + 3u * stride]);
  let later = at + 4u * stride;
  var hi = vec4(raw[later], raw[later + stride], raw[later + 2u * stride], raw[later + 3u * stride]);
  var sum_lo = vec4(conv[params.channels * params.taps + channel]);
  var sum_hi = sum_lo;
  for (var back = 0u; back < params.taps; back += 1u) {
    if (back > 0u) {
      hi = vec4(lo.w, hi.xyz);
      lo = vec4(tap(t0, back, channel, newest), lo.xyz);
    }
    let weight = conv[channel * params.taps + params.taps - 1u - back];
    sum_lo += weight * lo;
    sum_hi += weight * hi;
  }
  put(t0, channel, sum_lo.x);
  put(t0 + 1u, channel, sum_lo.y);
  put(t0 + 2u, channel, sum_lo.z);
  put(t0 + 3u, channel, sum_lo.w);
  put(t0 + 4u, channel, sum_hi.x);
  put(t0 + 5u, channel, sum_hi.y);
  put(t0 + 6u, channel, sum_hi.z);
  put(t0 + 7u, channel, sum_hi.w);
}
