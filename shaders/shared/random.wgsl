// The counter-based generator: a number in [0, 1) from (seed, position), the same bits as on the CPU.
fn scramble(value: u32) -> u32 {
  var h = value ^ (value >> 16u);
  h *= 0x7feb352du;
  h ^= h >> 15u;
  h *= 0x846ca68bu;
  return h ^ (h >> 16u);
}

fn uniform_at(seed_lo: u32, seed_hi: u32, position: u32) -> f32 {
  var h = scramble(position + 0x9e3779b9u);
  h = scramble((h ^ seed_lo) + 0x85ebca6bu);
  h = scramble((h ^ seed_hi) + 0xc2b2ae35u);
  return f32(h >> 8u) / 16777216.0;
}
