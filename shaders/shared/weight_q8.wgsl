// Weight prelude, int8: integers of all rows (two's complement, four to a u32), then scales (see weight_groups.wgsl).
@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

alias Word = vec2<u32>;
const WORD_BYTES = 8u;

// Where the scale of eight `i` is, with those of three other groups; scales follow `eights` eights of integers.
fn scales_at(eights: u32, i: u32) -> u32 { return eights + i / 16u; }
fn pair_of_scales(p: Stored, i: u32) -> u32 { return select(p.scales.x, p.scales.y, i / 8u % 2u == 1u); }

// Four bytes, each put below the leading bits of 2²³, where an f32 counts in ones: exact, and cheaper than a conversion. To flip
// the first bit of a byte is to add 128.
fn four(p: u32) -> vec4<f32> {
  let bytes = (vec4(p) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
  return bitcast<vec4<f32>>(bytes ^ vec4(0x4b000080u | unseen_zero())) - vec4(8388736.0); // 2²³ + 128
}

fn unpack_integers(p: Word) -> Eight {
  return Eight(four(p.x), four(p.y));
}

// Bytes as the leading bits of a fraction, 1 + (n + 128)/256.
fn fractions(p: u32) -> vec4<f32> {
  let bits = vec4(p << 15u, p << 7u, p >> 1u, p >> 9u) & vec4(0x007f8000u);
  return bitcast<vec4<f32>>(bits ^ vec4(0x3fc00000u | unseen_zero()));
}

// Σ n·x with one operation for a number less than unpacking takes; what 1.5 adds to each is taken off, the same for every row.
fn dot_integers(integers: Word, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
  let first = 256.0 * lo;
  let last = 256.0 * hi;
  return dot(fractions(integers.x), first) + (dot(fractions(integers.y), last) - dot(first + last, vec4(1.5)));
}
