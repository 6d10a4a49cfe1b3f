enable f16;
enable wgpu_cooperative_matrix;

// `matmul` with cooperative matrices for so many tokens that tiles of 128 of them fill the GPU: a subgroup owns 64 tokens by 64
// rows, so that less is loaded for each product. What is staged is loaded two steps ahead. shared/cooperative.wgsl has the rest.
const TILE = 128u;
const EIGHTS = 2u; // more would leave room for one workgroup at a time where there are 48 KiB of workgroup memory for all

var<private> c00: coop_mat16x16<f32, C>; // tokens, rows
var<private> c01: coop_mat16x16<f32, C>;
var<private> c02: coop_mat16x16<f32, C>;
var<private> c03: coop_mat16x16<f32, C>;
var<private> c10: coop_mat16x16<f32, C>;
var<private> c11: coop_mat16x16<f32, C>;
var<private> c12: coop_mat16x16<f32, C>;
var<private> c13: coop_mat16x16<f32, C>;
var<private> c20: coop_mat16x16<f32, C>;
var<private> c21: coop_mat16x16<f32, C>;
var<private> c22: coop_mat16x16<f32, C>;
var<private> c23: coop_mat16x16<f32, C>;
var<private> c30: coop_mat16x16<f32, C>;
var<private> c31: coop_mat16x16<f32, C>;
var<private> c32: coop_mat16x16<f32, C>;
var<private> c33: coop_mat16x16<f32, C>;

// Sixteen columns: 64 tokens from four `m` of x, 64 rows from four `n` of W.
fn multiply(m: u32, n: u32) {
  let b0 = coopLoad<coop_mat16x16<f16, B>>(&ws[n], STRIDE);
  let b1 = coopLoad<coop_mat16x16<f16, B>>(&ws[n + 16u * STRIDE], STRIDE);
  let b2 = coopLoad<coop_mat16x16<f16, B>>(&ws[n + 32u * STRIDE], STRIDE);
  let b3 = coopLoad<coop_mat16x16<f16, B>>(&ws[n + 48u * STRIDE], STRIDE);
  let l0 = coopLoadT<coop_mat16x16<f16, A>>(&x_low[m], STRIDE);
  c00 = coopMultiplyAdd(l0, b0, c00);
  c01 = coopMultiplyAdd(l0, b1, c01);
  c02 = coopMultiplyAdd(l0, b2, c02);
  c03 = coopMultiplyAdd(l0, b3, c03);
  let a0 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m], STRIDE);
  c00 = coopMultiplyAdd(a0, b0, c00);
  c01 = coopMultiplyAdd(a0, b1, c01);
  c02 = coopMultiplyAdd(a0, b2, c02);
  c03 = coopMultiplyAdd(a0, b3, c03);
  let l1 = coopLoadT<coop_mat16x16<f16, A>>(&x_low[m + 16u * STRIDE], STRIDE);
  c10 = coopMultiplyAdd(l1, b0, c10);
  c11 = coopMultiplyAdd(l1, b1, c11);
  c12 = coopMultiplyAdd(l1, b2, c12);
  c13 = coopMultiplyAdd(l1, b3, c13);
  let a1 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m + 16u * STRIDE], STRIDE);
  c10 = coopMultiplyAdd(a1, b0, c10);
  c11 = coopMultiplyAdd(a1, b1, c11);
  c12 = coopMultiplyAdd(a1, b2, c12);
  c13 = coopMultiplyAdd(a1, b3, c13);
  let l2 = coopLoadT<coop_mat16x16<f16, A>>(&x_low[m + 32u * STRIDE], STRIDE);
  c20 = coopMultiplyAdd(l2, b0, c20);
  c21 = coopMultiplyAdd(l2, b1, c21);
  c22 = coopMultiplyAdd(l2, b2, c22);
  c23 = coopMultiplyAdd(l2, b3, c23);
  let a2 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m + 32u * STRIDE], STRIDE);
  c20 = coopMultiplyAdd(a2, b0, c20);
  c21 = coopMultiplyAdd(a2, b1, c21);
  c22 = coopMultiplyAdd(a2, b2, c22);
  c23 = coopMultiplyAdd(a2, b3, c23);
  let l3 = coopLoadT<coop_mat16x16<f16, A>>(&x_low[m + 48u * STRIDE], STRIDE);
  c30 = coopMultiplyAdd(l3, b0, c30);
  c31 = coopMultiplyAdd(l3, b1, c31);
  c32 = coopMultiplyAdd(l3, b2, c32);
  c33 = coopMultiplyAdd(l3, b3, c33);
  let a3 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m + 48u * STRIDE], STRIDE);
  c30 = coopMultiplyAdd(a3, b0, c30);
  c31 = coopMultiplyAdd(a3, b1, c31);
  c32 = coopMultiplyAdd(a3, b2, c32);
  c33 = coopMultiplyAdd(a3, b3, c33);
}

// The same with what one f16 does not hold of W. The lesser parts of both together are less than f32 holds of the sum.
fn multiply_rest(m: u32, n: u32) {
  let b0 = coopLoad<coop_mat16x16<f16, B>>(&ws[n], STRIDE);
  let b1 = coopLoad<coop_mat16x16<f16, B>>(&ws[n + 16u * STRIDE], STRIDE);
  let b2 = coopLoad<coop_mat16x16<f16, B>>(&ws[n + 32u * STRIDE], STRIDE);
  let b3 = coopLoad<coop_mat16x16<f16, B>>(&ws[n + 48u * STRIDE], STRIDE);
  let a0 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m], STRIDE);
  c00 = coopMultiplyAdd(a0, b0, c00);
  c01 = coopMultiplyAdd(a0, b1, c01);
  c02 = coopMultiplyAdd(a0, b2, c02);
  c03 = coopMultiplyAdd(a0, b3, c03);
  let a1 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m + 16u * STRIDE], STRIDE);
  c10 = coopMultiplyAdd(a1, b0, c10);
  c11 = coopMultiplyAdd(a1, b1, c11);
  c12 = coopMultiplyAdd(a1, b2, c12);
  c13 = coopMultiplyAdd(a1, b3, c13);
  let a2 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m + 32u * STRIDE], STRIDE);
  c20 = coopMultiplyAdd(a2, b0, c20);
  c21 = coopMultiplyAdd(a2, b1, c21);
  c22 = coopMultiplyAdd(a2, b2, c22);
  c23 = coopMultiplyAdd(a2, b3, c23);
  let a3 = coopLoadT<coop_mat16x16<f16, A>>(&x_high[m + 48u * STRIDE], STRIDE);
  c30 = coopMultiplyAdd(a3, b0, c30);
  c31 = coopMultiplyAdd(a3, b1, c31);
  c32 = coopMultiplyAdd(a3, b2, c32);
  c33 = coopMultiplyAdd(a3, b3, c33);
}

// Whether sums go straight to y, or are added to what is there: of a whole tile of tokens, and of rows in whole blocks, or in
// whole tiles where y is read.
fn is_direct(m0: u32, count: u32) -> bool {
  let plain = (EPILOGUE == STORE || EPILOGUE == ADD) && !BIAS && !GATHER && !SCATTER;
  let whole = select(16u, 128u, EPILOGUE == ADD);
  return plain && m0 + TILE <= count && params.rows % whole == 0u && params.first_row % 4u == 0u;
}

fn store(sums: coop_mat16x16<f32, C>, m: u32, row: u32) {
  let width = row_stride(params.y_cols);
  let at = m * width + params.first_row + row;
  if (EPILOGUE == ADD) {
    let before = coopLoadT<coop_mat16x16<f32, C>>(&y[at], width);
    coopStoreT(before + sums * params.scale, &y[at], width);
  } else if (row < params.rows) {
    coopStoreT(sums, &y[at], width);
  }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let count = token_count();
  let m0 = group.x * TILE;
  let row0 = group.y * 128u;
  if (m0 >= count) { return; }
  let m = lane / 64u * (TILE / 2u);
  let n = lane / 32u % 2u * 64u;
  // This invocation stages a four of 4 tokens and an eight of 2 rows.
  let token = lane / (2u * EIGHTS);
  let four = lane % (2u * EIGHTS);
  let row = lane / EIGHTS;
  let eight = lane % EIGHTS;
  let x0 = x_row(m0 + token, count);
  let x1 = x_row(m0 + token + 32u, count);
  let x2 = x_row(m0 + token + 64u, count);
  let x3 = x_row(m0 + token + 96u, count);
  let w0 = w_row(row0 + row);
  let w1 = w_row(row0 + row + 64u);
  c00 = coop_mat16x16<f32, C>();
  c01 = coop_mat16x16<f32, C>();
  c02 = coop_mat16x16<f32, C>();
  c03 = coop_mat16x16<f32, C>();
  c10 = coop_mat16x16<f32, C>();
  c11 = coop_mat16x16<f32, C>();
  c12 = coop_mat16x16<f32, C>();
  c13 = coop_mat16x16<f32, C>();
  c20 = coop_mat16x16<f32, C>();
  c21 = coop_mat16x16<f32, C>();
  c22 = coop_mat16x16<f32, C>();
  c23 = coop_mat16x16<f32, C>();
  c30 = coop_mat16x16<f32, C>();
  c31 = coop_mat16x16<f32, C>();
  c32 = coop_mat16x16<f32, C>();
  c33 = coop_mat16x16<f32, C>();
  var next_x0 = x_four(x0, four);
  var next_x1 = x_four(x1, four);
  var next_x2 = x_four(x2, four);
  var next_x3 = x_four(x3, four);
  var next_w0 = w_eight(w0, eight);
  var next_w1 = w_eight(w1, eight);
  var later_x0 = x_four(x0, 2u * EIGHTS + four);
  var later_x1 = x_four(x1, 2u * EIGHTS + four);
  var later_x2 = x_four(x2, 2u * EIGHTS + four);
  var later_x3 = x_four(x3, 2u * EIGHTS + four);
  var later_w0 = w_eight(w0, EIGHTS + eight);
  var later_w1 = w_eight(w1, EIGHTS + eight);
  for (var k = 0u; k < weight_stride(params.cols); k += 2u * EIGHTS) {
    put_x(token, four, next_x0);
    put_x(token + 32u, four, next_x1);
    put_x(token + 64u, four, next_x2);
    put_x(token + 96u, four, next_x3);
    put_w(row, eight, next_w0, w0 + k + eight);
    put_w(row + 64u, eight, next_w1, w1 + k + eight);
    workgroupBarrier();
    next_x0 = x_four(x0, 2u * (k + 2u * EIGHTS) + four);
    next_x1 = x_four(x1, 2u * (k + 2u * EIGHTS) + four);
    next_x2 = x_four(x2, 2u * (k + 2u * EIGHTS) + four);
    next_x3 = x_four(x3, 2u * (k + 2u * EIGHTS) + four);
    next_w0 = w_eight(w0, k + 2u * EIGHTS + eight);
    next_w1 = w_eight(w1, k + 2u * EIGHTS + eight);
    multiply(m * STRIDE, n * STRIDE);
    if (GROUPED) { multiply_rest(m * STRIDE, LOW + n * STRIDE); }
    workgroupBarrier();
    put_x(token, four, later_x0);
    put_x(token + 32u, four, later_x1);
    put_x(token + 64u, four, later_x2);
    put_x(token + 96u, four, later_x3);
    put_w(row, eight, later_w0, w0 + k + EIGHTS + eight);
    put_w(row + 64u, eight, later_w1, w1 + k + EIGHTS + eight);
    workgroupBarrier();
    later_x0 = x_four(x0, 2u * (k + 3u * EIGHTS) + four);
    later_x1 = x_four(x1, 2u * (k + 3u * EIGHTS) + four);
    later_x2 = x_four(x2, 2u * (k + 3u * EIGHTS) + four);
    later_x3 = x_four(x3, 2u * (k + 3u * EIGHTS) + four);
    later_w0 = w_eight(w0, k + 3u * EIGHTS + eight);
    later_w1 = w_eight(w1, k + 3u * EIGHTS + eight);
    multiply(m * STRIDE, n * STRIDE);
    if (GROUPED) { multiply_rest(m * STRIDE, LOW + n * STRIDE); }
    workgroupBarrier();
  }
  if (is_direct(m0, count)) {
    store(c00, m0 + m, row0 + n);
    store(c01, m0 + m, row0 + n + 16u);
    store(c02, m0 + m, row0 + n + 32u);
    store(c03, m0 + m, row0 + n + 48u);
    store(c10, m0 + m + 16u, row0 + n);
    store(c11, m0 + m + 16u, row0 + n + 16u);
    store(c12, m0 + m + 16u, row0 + n + 32u);
    store(c13, m0 + m + 16u, row0 + n + 48u);
    store(c20, m0 + m + 32u, row0 + n);
    store(c21, m0 + m + 32u, row0 + n + 16u);
    store(c22, m0 + m + 32u, row0 + n + 32u);
    store(c23, m0 + m + 32u, row0 + n + 48u);
    store(c30, m0 + m + 48u, row0 + n);
    store(c31, m0 + m + 48u, row0 + n + 16u);
    store(c32, m0 + m + 48u, row0 + n + 32u);
    store(c33, m0 + m + 48u, row0 + n + 48u);
    return;
  }
  let at = lane / 32u * 256u;
  coopStoreT(c00, &block[at], 16u);
  finish_block(lane, m0 + m, count, row0 + n);
  coopStoreT(c01, &block[at], 16u);
  finish_block(lane, m0 + m, count, row0 + n + 16u);
  coopStoreT(c02, &block[at], 16u);
  finish_block(lane, m0 + m, count, row0 + n + 32u);
  coopStoreT(c03, &block[at], 16u);
  finish_block(lane, m0 + m, count, row0 + n + 48u);
  coopStoreT(c10, &block[at], 16u);
  finish_block(lane, m0 + m + 16u, count, row0 + n);
  coopStoreT(c11, &block[at], 16u);
  finish_block(lane, m0 + m + 16u, count, row0 + n + 16u);
  coopStoreT(c12, &block[at], 16u);
  finish_block(lane, m0 + m + 16u, count, row0 + n + 32u);
  coopStoreT(c13, &block[at], 16u);
  finish_block(lane, m0 + m + 16u, count, row0 + n + 48u);
  coopStoreT(c20, &block[at], 16u);
  finish_block(lane, m0 + m + 32u, count, row0 + n);
  coopStoreT(c21, &block[at], 16u);
  finish_block(lane, m0 + m + 32u, count, row0 + n + 16u);
  coopStoreT(c22, &block[at], 16u);
  finish_block(lane, m0 + m + 32u, count, row0 + n + 32u);
  coopStoreT(c23, &block[at], 16u);
  finish_block(lane, m0 + m + 32u, count, row0 + n + 48u);
  coopStoreT(c30, &block[at], 16u);
  finish_block(lane, m0 + m + 48u, count, row0 + n);
  coopStoreT(c31, &block[at], 16u);
  finish_block(lane, m0 + m + 48u, count, row0 + n + 16u);
  coopStoreT(c32, &block[at], 16u);
  finish_block(lane, m0 + m + 48u, count, row0 + n + 32u);
  coopStoreT(c33, &block[at], 16u);
  finish_block(lane, m0 + m + 48u, count, row0 + n + 48u);
}
