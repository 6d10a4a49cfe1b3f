// Weight prelude, int4: integers of all rows (plus 8, eight to a u32), then scales (see weight_groups.wgsl).
@group(0) @binding(1) var<storage, read> weight: array<u32>;

alias Word = u32;
const WORD_BYTES = 4u;

// Where the scale of eight `i` is, with that of another group; scales follow `eights` eights of integers.
fn scales_at(eights: u32, i: u32) -> u32 { return eights + i / 8u; }
fn stored_of(eight: Word, scales: Word, i: u32) -> Stored { return Stored(eight, scales); }

// Four nibbles, each put below the leading bits of 2²³, where an f32 counts in ones: exact, and cheaper than a conversion.
fn four(p: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((p & vec4(0xfu)) | vec4(0x4b000000u)) - vec4(8388616.0); // 2²³ + 8
}

fn unpack_integers(integers: Word) -> Eight {
  let p = vec4(integers);
  return Eight(four(p >> vec4(0u, 4u, 8u, 12u)), four(p >> vec4(16u, 20u, 24u, 28u)));
}
