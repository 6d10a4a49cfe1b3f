// What the two forms of `matmul` with cooperative matrices share: a tile of TILE tokens by 128 rows of W, 128 invocations,
// EIGHTS eights of columns staged at a time. Four subgroups of 32 own TILE / 2 tokens by 64 rows each, as products of 16 by 16
// blocks of f16 summed in f32.
// Columns come in whole sixty-fours, so that none of what is staged is beyond the last.
// A number of x goes in as two f16 (shared/halves.wgsl). W of f16 or bf16 keeps all its bits as one f16, or is smaller than
// 2⁻¹⁴, or infinite; an integer times a scale has more bits, and is two as well.
// What is loaded is kept as it is stored and only looked at a step later: whatever is done to it sooner waits for it.
const STRIDE = 2u * EIGHTS + 2u; // fours from one staged row to the next, two of them against bank conflicts
const LOW = 128u * STRIDE;

var<workgroup> x_high: array<vec4<f16>, TILE * STRIDE>; // [token][four]
var<workgroup> x_low: array<vec4<f16>, TILE * STRIDE>;
var<workgroup> ws: array<vec4<f16>, (1u + u32(GROUPED)) * LOW>; // [row][four], then what one f16 does not hold of each
var<workgroup> block: array<f32, 1024>;                 // a 16 by 16 block of each subgroup

// Where the fours of a token of x begin, and the eights of a row of W: of the last one for those that there are not.
fn x_row(m: u32, count: u32) -> u32 {
  var row = min(m, count - 1u) + params.x_first;
  if (GATHER) { row = selection[index_at(min(m, count - 1u), params.capacity)]; }
  return row * (row_stride(params.cols) / 4u);
}

fn w_row(row: u32) -> u32 { return min(row, params.rows - 1u) * weight_stride(params.cols); }

fn x_four(row: u32, four: u32) -> vec4<f32> { return x[row + min(four, row_stride(params.cols) / 4u - 1u)]; }

fn w_eight(row: u32, eight: u32) -> Stored { return stored8(row + min(eight, weight_stride(params.cols) - 1u)); }

fn put_x(token: u32, four: u32, v: vec4<f32>) {
  let at = token * STRIDE + four;
  let h = halves(v);
  x_high[at] = h.high;
  x_low[at] = h.low;
}

// Eight `i` of the stored matrix.
fn put_w(row: u32, eight: u32, stored: Stored, i: u32) {
  let at = row * STRIDE + 2u * eight;
  let v = unpack8(stored, i);
  if (GROUPED) {
    let lo = halves(v.lo);
    let hi = halves(v.hi);
    ws[at] = lo.high;
    ws[at + 1u] = hi.high;
    ws[LOW + at] = lo.low;
    ws[LOW + at + 1u] = hi.low;
    return;
  }
  ws[at] = vec4<f16>(v.lo);
  ws[at + 1u] = vec4<f16>(v.hi);
}

// Writes the blocks of all subgroups, sixteen tokens by sixteen rows, four numbers to an invocation and round.
fn finish_block(lane: u32, m: u32, count: u32, row: u32) {
  workgroupBarrier();
  let base = lane / 32u * 256u;
  for (var i = lane % 32u; i < 64u; i += 32u) {
    let at = base + 4u * i;
    if (m + i / 4u < count) {
      finish(m + i / 4u, row + i % 4u * 4u, vec4(block[at], block[at + 1u], block[at + 2u], block[at + 3u]));
    }
  }
  workgroupBarrier();
}
