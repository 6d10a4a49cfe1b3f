
struct Eight { lo: vec4<f32>, hi: vec4<f32> }

// Eights from one row of the stored matrix to the next.
fn weight_stride(cols: u32) -> u32 {
  return (cols + 7u) / 8u;
}

// Elements 8·i … 8·i + 7 times eight numbers.
fn dot8(i: u32, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
  let e = weight8(i);
  return dot(e.lo, lo) + dot(e.hi, hi);
}
