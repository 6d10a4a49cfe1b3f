
const GROUPED = false;

struct Eight { lo: vec4<f32>, hi: vec4<f32> }

// Eights from one row of the stored matrix to the next.
fn weight_stride(cols: u32) -> u32 {
  return (cols + 7u) / 8u;
}

// Elements 8·i … 8·i + 7 of the stored matrix.
fn weight8(i: u32) -> Eight { return unpack8(stored8(i), i); }

// Elements 8·i … 8·i + 7 times eight numbers. Asking for several `stored8` first lets them come together.
fn dot8(p: Stored, i: u32, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
  let e = unpack8(p, i);
  return dot(e.lo, lo) + dot(e.hi, hi);
}
