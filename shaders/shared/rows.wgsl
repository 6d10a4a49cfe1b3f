// Every f32 matrix in a storage buffer has its rows padded with zeros to a multiple of 8 floats.
fn row_stride(cols: u32) -> u32 {
  return (cols + 7u) & ~7u;
}
