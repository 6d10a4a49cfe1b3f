// Eight numbers on their way from where they are stored to workgroup memory.
struct Eight { lo: vec4<f32>, hi: vec4<f32> }

// How many of the numbers first, first + stride … there are below `end`.
fn count_to(end: u32, first: u32, stride: u32) -> u32 { return (max(end, first) - first + stride - 1u) / stride; }

// The first `count` of eight numbers, and zeros: what was read beyond them may be anything.
fn only(count: u32, v: Eight) -> Eight {
  let lo = select(vec4(0.0), v.lo, vec4(0u, 1u, 2u, 3u) < vec4(count));
  return Eight(lo, select(vec4(0.0), v.hi, vec4(4u, 5u, 6u, 7u) < vec4(count)));
}
