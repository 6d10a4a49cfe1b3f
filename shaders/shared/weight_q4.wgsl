// Weight prelude, int4: integers of all rows (plus 8, eight to a u32), then scales (see weight_groups.wgsl).
@group(0) @binding(1) var<storage, read> weight: array<u32>;

alias Word = u32;
const WORD_BYTES = 4u;

// Where the scale of eight `i` is, with that of another group; scales follow `eights` eights of integers.
fn scales_at(eights: u32, i: u32) -> u32 { return eights + i / 8u; }
fn pair_of_scales(p: Stored, i: u32) -> u32 { return p.scales; }

// Four nibbles, each put below the leading bits of 2²³, where an f32 counts in ones: exact, and cheaper than a conversion.
fn four(p: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((p & vec4(0xfu)) | vec4(0x4b000000u | unseen_zero())) - vec4(8388616.0); // 2²³ + 8
}

fn unpack_integers(integers: Word) -> Eight {
  let p = vec4(integers);
  return Eight(four(p >> vec4(0u, 4u, 8u, 12u)), four(p >> vec4(16u, 20u, 24u, 28u)));
}

// Σ (n − 8)·x with two operations for a number and a shift for two of them, where unpacking takes more: nibbles become the leading
// bits of a fraction, 1 + n/16, or those behind them, 1 + n/256. What the ones add is taken off, the same for every row. That
// costs four bits of 24, of which 20 are many for a weight of four.
fn dot_integers(integers: Word, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
  let even = 256.0 * vec4(lo.xz, hi.xz);
  let odd = 16.0 * vec4(lo.yw, hi.yw);
  let ones = vec4(0x3f800000u | unseen_zero());
  let p = vec4(integers << 15u, integers << 7u, integers >> 1u, integers >> 9u);
  let leading = bitcast<vec4<f32>>((p & vec4(0x00780000u)) | ones);
  let behind = bitcast<vec4<f32>>((p & vec4(0x00078000u)) | ones);
  return dot(leading, odd) + (dot(behind, even) - (dot(odd, vec4(1.5)) + dot(even, vec4(1.03125))));
}
