// Rotary angles that stay exact at any position: the table holds each frequency as a 64-bit fixed-point fraction of a
// turn per position (hi, lo), so the product with the position wraps to the fraction of a turn in integer arithmetic.

// Upper 32 bits of a·b.
fn mul_high(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let mid = a1 * b0 + ((a0 * b0) >> 16u);
  let mid2 = a0 * b1 + (mid & 0xffffu);
  return a1 * b1 + (mid >> 16u) + (mid2 >> 16u);
}

// (cos, sin) of the angle of frequency i at `position`; the angle handed to the built-ins lies in [−π, π].
fn rotation(position: u32, i: u32) -> vec2<f32> {
  let turn = position * table[2u * i] + mul_high(position, table[2u * i + 1u]);
  let angle = f32(bitcast<i32>(turn)) * (6.283185307179586 / 4294967296.0);
  return vec2(cos(angle), sin(angle));
}
