// Weight prelude, int8: integers of all rows (two's complement, four to a u32), then scales (see weight_groups.wgsl).
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

alias Word = vec2<u32>;
const WORD_BYTES = 8u;

// Where the scale of eight `i` is, with those of three other groups; scales follow `eights` eights of integers.
fn scales_at(eights: u32, i: u32) -> u32 { return eights + i / 16u; }
fn stored_of(eight: Word, scales: Word, i: u32) -> Stored { return Stored(eight, scales[i / 8u % 2u]); }

// Four bytes, each put below the leading bits of 2²³, where an f32 counts in ones: exact, and cheaper than a conversion.
fn four(p: u32) -> vec4<f32> {
  let biased = (vec4(p ^ 0x80808080u) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
  return bitcast<vec4<f32>>(biased | vec4(0x4b000000u)) - vec4(8388736.0); // 2²³ + 128
}

fn unpack_integers(p: Word) -> Eight {
  return Eight(four(p.x), four(p.y));
}
