// A number as two f16, its leading 11 bits and the rest, so that no more is lost than in f32, down to 2⁻²⁵. Beyond the range of
// f16 numbers are cut off.
const MOST = 65504.0; // the largest f16
struct Halves { high: vec4<f16>, low: vec4<f16> }

fn halves(v: vec4<f32>) -> Halves {
  let inside = clamp(v, vec4(-MOST), vec4(MOST));
  let high = bitcast<vec4<f32>>(bitcast<vec4<u32>>(inside) & vec4(0xffffe000u));
  return Halves(vec4<f16>(high), vec4<f16>(inside - high));
}
