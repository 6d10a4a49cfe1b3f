// Weight prelude, int8: integers of all rows (two's complement, four to a u32), then scales (see weight_groups.wgsl).
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

// The word that holds the scales of groups 2·pair and 2·pair + 1; scales follow `eights` eights of integers.
fn scale_pair(eights: u32, pair: u32) -> u32 {
  return weight[eights + pair / 2u][pair % 2u];
}

// Four bytes, each put below the leading bits of 2²³, where an f32 counts in ones: exact, and cheaper than a conversion.
fn four(p: u32) -> vec4<f32> {
  let biased = (vec4(p ^ 0x80808080u) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
  return bitcast<vec4<f32>>(biased | vec4(0x4b000000u)) - vec4(8388736.0); // 2²³ + 128
}

alias Integers = vec2<u32>;

// Integers 8·i … 8·i + 7 of the stored matrix.
fn integers8(i: u32) -> Integers { return weight[i]; }

fn unpack_integers(p: Integers) -> Eight {
  return Eight(four(p.x), four(p.y));
}
