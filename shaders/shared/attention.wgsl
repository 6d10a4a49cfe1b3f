// What the kernels of attention read: queries, and four channels of keys or values from `at` on, from the segment or the ring.
override ROTARY: bool = false;
override FOURS: bool = true;    // head_dim is a multiple of four

fn kv_cols() -> u32 { return 2u * params.kv_heads * params.head_dim; }

fn segment_four(at: u32) -> vec4<f32> {
  if (FOURS) { return kv[at / 4u]; }
  let a = vec4(at) + vec4(0u, 1u, 2u, 3u);
  return vec4(kv[a.x / 4u][a.x % 4u], kv[a.y / 4u][a.y % 4u], kv[a.z / 4u][a.z % 4u], kv[a.w / 4u][a.w % 4u]);
}

fn ring_four(at: u32) -> vec4<f32> {
  if (FOURS) { return window[at / 4u]; }
  let a = vec4(at) + vec4(0u, 1u, 2u, 3u);
  return vec4(
    window[a.x / 4u][a.x % 4u], window[a.y / 4u][a.y % 4u], window[a.z / 4u][a.z % 4u], window[a.w / 4u][a.w % 4u],
  );
}

// Channel d of the query that starts at `base`, rotated and scaled; behind its last one zeros.
fn query_channel(base: u32, d: u32, position: u32) -> f32 {
  if (d >= params.head_dim) { return 0.0; }
  var v = q[base + d];
  if (ROTARY && d < params.rotary) {
    let half = params.rotary / 2u;
    let r = rotation(position, d % half);
    if (d < half) { v = v * r.x - q[base + d + half] * r.y; } else { v = v * r.x + q[base + d - half] * r.y; }
  }
  return v * params.scale;
}
