
// Quantised storage: an element is an integer times the f16 scale of its group, 32 consecutive columns of a row. Rows are
// padded with zeros to whole groups. The scales of all groups of the piece follow its integers; the body binds `params`.
struct Eight { lo: vec4<f32>, hi: vec4<f32> }

// Eights from one row of the stored matrix to the next.
fn weight_stride(cols: u32) -> u32 {
  return (cols + 31u) / 32u * 4u;
}

// Scale of the elements 8·i … 8·i + 7.
fn weight_scale(i: u32) -> f32 {
  let pair = scale_pair(params.rows * weight_stride(params.cols), i / 8u);
  return unpack2x16float(pair >> (i / 4u % 2u * 16u)).x;
}

// Elements 8·i … 8·i + 7 of the stored matrix.
fn weight8(i: u32) -> Eight {
  let e = integers8(i);
  let scale = weight_scale(i);
  return Eight(e.lo * scale, e.hi * scale);
}

// Elements 8·i … 8·i + 7 times eight numbers.
fn dot8(i: u32, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
  let e = integers8(i);
  return (dot(e.lo, lo) + dot(e.hi, hi)) * weight_scale(i);
}
