// Weights from a counter: value(i) = (2·b − 255)·scale for the top byte b of a hash of (seed, i), i the index in the dense
// matrix. An odd integer of 9 bits times scale = s·2⁻ᵏ with s < 8 has at most 11 significant bits: exact in f16, never zero.
// Rows are padded with zeros to a multiple of 8 elements.
struct Params { seed: u32, first: u32, rows: u32, cols: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read_write> out: array<u32>; // (rows, stride), one f32 or two f16 a word

override HALF: bool = true;

fn value(row: u32, col: u32) -> f32 {
  if (col >= params.cols) { return 0.0; }
  let index = params.first + row * params.cols + col;
  let h = scramble(scramble(index + 0x9e3779b9u) ^ params.seed);
  return f32(2 * i32(h >> 24u) - 255) * params.scale;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let stride = row_stride(params.cols);
  let per_word = select(1u, 2u, HALF);
  let words = stride / per_word;
  let i = id.y * groups.x * 256u + id.x;
  if (i >= params.rows * words) { return; }
  let row = i / words;
  let col = (i % words) * per_word;
  if (HALF) {
    out[i] = pack2x16float(vec2(value(row, col), value(row, col + 1u)));
  } else {
    out[i] = bitcast<u32>(value(row, col));
  }
}
