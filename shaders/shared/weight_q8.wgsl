// Weight prelude, int8: integers of all rows (two's complement, four to a u32), then scales (see weight_groups.wgsl).
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

alias Word = vec2<u32>;
const WORD_BYTES = 8u;

// Where the scale of eight `i` is, with those of three other groups; scales follow `eights` eights of integers.
fn scales_at(eights: u32, i: u32) -> u32 { return eights + i / 16u; }
fn pair_of_scales(p: Stored, i: u32) -> u32 { return select(p.scales.x, p.scales.y, i / 8u % 2u == 1u); }

// Four bytes, each put below the leading bits of 2²³, where an f32 counts in ones: exact, and cheaper than a conversion.
fn four(p: u32) -> vec4<f32> {
  let biased = (vec4(p ^ 0x80808080u) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
  return bitcast<vec4<f32>>(biased | vec4(0x4b000000u)) - vec4(8388736.0); // 2²³ + 128
}

fn unpack_integers(p: Word) -> Eight {
  return Eight(four(p.x), four(p.y));
}

// Bytes as the leading bits of a fraction, 1 + (n + 128)/256.
fn fractions(p: u32) -> vec4<f32> {
  let biased = p ^ 0x80808080u;
  let bits = vec4(biased << 15u, biased << 7u, biased >> 1u, biased >> 9u) & vec4(0x007f8000u);
  return bitcast<vec4<f32>>(bits | vec4(0x3f800000u));
}

// Σ n·x with one operation for a number less than unpacking takes; what 1.5 adds to each is taken off, the same for every row.
fn dot_integers(integers: Word, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
  let ones = dot(lo + hi, vec4(1.5));
  return 256.0 * (dot(fractions(integers.x), lo) + dot(fractions(integers.y), hi) - ones);
}
