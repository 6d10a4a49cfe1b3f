// A number as two f16, its leading 11 bits and the rest, so that no more is lost than in f32, down to 2⁻²⁵. Of a number beyond
// the range of f16 they are infinite, and what is computed with them is not a number: it shows.
struct Halves { high: vec4<f16>, low: vec4<f16> }

fn halves(v: vec4<f32>) -> Halves {
  let high = bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4(0xffffe000u));
  return Halves(vec4<f16>(high), vec4<f16>(v - high));
}
