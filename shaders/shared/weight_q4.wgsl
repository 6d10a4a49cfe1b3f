// Weight prelude, int4: integers of all rows (plus 8, eight to a u32), then scales (see weight_groups.wgsl).
@group(0) @binding(1) var<storage, read> weight: array<u32>;

// The word that holds the scales of groups 2·pair and 2·pair + 1; scales follow `eights` eights of integers.
fn scale_pair(eights: u32, pair: u32) -> u32 {
  return weight[eights + pair];
}

// Four nibbles, each put below the leading bits of 2²³, where an f32 counts in ones: exact, and cheaper than a conversion.
fn four(p: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((p & vec4(0xfu)) | vec4(0x4b000000u)) - vec4(8388616.0); // 2²³ + 8
}

alias Integers = u32;

// Integers 8·i … 8·i + 7 of the stored matrix.
fn integers8(i: u32) -> Integers { return weight[i]; }

fn unpack_integers(integers: Integers) -> Eight {
  let p = vec4(integers);
  return Eight(four(p >> vec4(0u, 4u, 8u, 12u)), four(p >> vec4(16u, 20u, 24u, 28u)));
}
