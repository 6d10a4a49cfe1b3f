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

// (cos, sin) of the angle of frequency i at `position`. The built-ins may be off by 2⁻¹¹, and some are: attention scores feel
// that. So the nearest quarter turn is taken off, which is exact, and a series does the rest, an eighth of a turn at most.
fn rotation(position: u32, i: u32) -> vec2<f32> {
  let turn = position * table[2u * i] + mul_high(position, table[2u * i + 1u]);
  let quarter = (turn + 0x20000000u) >> 30u;
  let x = f32(bitcast<i32>(turn - (quarter << 30u))) * (6.283185307179586 / 4294967296.0);
  let y = x * x;
  let cosine = 1.0 + y * (-1.0 / 2.0 + y * (1.0 / 24.0 + y * (-1.0 / 720.0 + y / 40320.0)));
  let sine = x * (1.0 + y * (-1.0 / 6.0 + y * (1.0 / 120.0 + y * (-1.0 / 5040.0 + y / 362880.0))));
  let turned = select(vec2(cosine, sine), vec2(-sine, cosine), (quarter & 1u) == 1u);
  return select(turned, -turned, (quarter & 2u) == 2u);
}
