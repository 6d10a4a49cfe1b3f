
// Quantised storage: an element is an integer times the f16 scale of its group, 32 consecutive columns of a row. Rows are
// padded with zeros to whole groups. The scales of all groups of the piece follow its integers; the body binds `params`.
const GROUPED = true;

struct Eight { lo: vec4<f32>, hi: vec4<f32> }

// Eights from one row of the stored matrix to the next.
fn weight_stride(cols: u32) -> u32 {
  return (cols + 31u) / 32u * 4u;
}

// Zero, since rows are fewer, which no compiler knows. (p & a) | b takes two operations where it sees a and b, and one, on NVIDIA,
// where it sees one of them.
fn unseen_zero() -> u32 { return params.rows >> 31u; }

// Integers, and scales of groups, one of which is theirs: which, is asked when they are used, else it would have to be waited for.
struct Stored { integers: Word, scales: Word }

// Elements 8·i … 8·i + 7 of the stored matrix, as they are stored.
fn stored8(i: u32) -> Stored {
  return stored_of(weight[i], weight[scales_at(params.rows * weight_stride(params.cols), i)], i);
}

fn stored_of(eight: Word, scales: Word, i: u32) -> Stored { return Stored(eight, scales); }

fn scale_of_eight(p: Stored, i: u32) -> f32 {
  return unpack2x16float(pair_of_scales(p, i) >> (i / 4u % 2u * 16u)).x;
}

fn unpack8(p: Stored, i: u32) -> Eight {
  let e = unpack_integers(p.integers);
  let scale = scale_of_eight(p, i);
  return Eight(e.lo * scale, e.hi * scale);
}

// Elements 8·i … 8·i + 7 of the stored matrix.
fn weight8(i: u32) -> Eight { return unpack8(stored8(i), i); }

// Elements 8·i … 8·i + 7 times eight numbers. Asking for several `stored8` first lets them come together.
fn dot8(p: Stored, i: u32, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
  return dot_integers(p.integers, lo, hi) * scale_of_eight(p, i);
}
