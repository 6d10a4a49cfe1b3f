enable f16;
enable wgpu_cooperative_matrix;

// `matmul` with cooperative matrices: tiles of 64 tokens by 128 rows of W, the formats, switches and grid of the plain one. A
// subgroup owns 32 tokens by 64 rows; shared/cooperative.wgsl has the rest.
const TILE = 64u;
const EIGHTS = 8u; // whole lines of memory are loaded at once

var<private> c00: coop_mat16x16<f32, C>; // tokens, rows
var<private> c01: coop_mat16x16<f32, C>;
var<private> c02: coop_mat16x16<f32, C>;
var<private> c03: coop_mat16x16<f32, C>;
var<private> c10: coop_mat16x16<f32, C>;
var<private> c11: coop_mat16x16<f32, C>;
var<private> c12: coop_mat16x16<f32, C>;
var<private> c13: coop_mat16x16<f32, C>;

// Sixteen columns: 32 tokens from four `m` of x, 64 rows from four `n` of W.
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
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let count = token_count();
  let m0 = group.x * TILE;
  let row0 = group.y * 128u;
  if (m0 >= count) { return; }
  let m = lane / 64u * (TILE / 2u);
  let n = lane / 32u % 2u * 64u;
  // This invocation stages a four of 8 tokens and an eight of 8 rows.
  let token = lane / (2u * EIGHTS);
  let four = lane % (2u * EIGHTS);
  let row = lane / EIGHTS;
  let eight = lane % EIGHTS;
  let x0 = x_row(m0 + token, count);
  let x1 = x_row(m0 + token + 8u, count);
  let x2 = x_row(m0 + token + 16u, count);
  let x3 = x_row(m0 + token + 24u, count);
  let x4 = x_row(m0 + token + 32u, count);
  let x5 = x_row(m0 + token + 40u, count);
  let x6 = x_row(m0 + token + 48u, count);
  let x7 = x_row(m0 + token + 56u, count);
  let w0 = w_row(row0 + row);
  let w1 = w_row(row0 + row + 16u);
  let w2 = w_row(row0 + row + 32u);
  let w3 = w_row(row0 + row + 48u);
  let w4 = w_row(row0 + row + 64u);
  let w5 = w_row(row0 + row + 80u);
  let w6 = w_row(row0 + row + 96u);
  let w7 = w_row(row0 + row + 112u);
  c00 = coop_mat16x16<f32, C>();
  c01 = coop_mat16x16<f32, C>();
  c02 = coop_mat16x16<f32, C>();
  c03 = coop_mat16x16<f32, C>();
  c10 = coop_mat16x16<f32, C>();
  c11 = coop_mat16x16<f32, C>();
  c12 = coop_mat16x16<f32, C>();
  c13 = coop_mat16x16<f32, C>();
  var next_x0 = x_four(x0, four);
  var next_x1 = x_four(x1, four);
  var next_x2 = x_four(x2, four);
  var next_x3 = x_four(x3, four);
  var next_x4 = x_four(x4, four);
  var next_x5 = x_four(x5, four);
  var next_x6 = x_four(x6, four);
  var next_x7 = x_four(x7, four);
  var next_w0 = w_eight(w0, eight);
  var next_w1 = w_eight(w1, eight);
  var next_w2 = w_eight(w2, eight);
  var next_w3 = w_eight(w3, eight);
  var next_w4 = w_eight(w4, eight);
  var next_w5 = w_eight(w5, eight);
  var next_w6 = w_eight(w6, eight);
  var next_w7 = w_eight(w7, eight);
  for (var k = 0u; k < weight_stride(params.cols); k += EIGHTS) {
    put_x(token, four, next_x0);
    put_x(token + 8u, four, next_x1);
    put_x(token + 16u, four, next_x2);
    put_x(token + 24u, four, next_x3);
    put_x(token + 32u, four, next_x4);
    put_x(token + 40u, four, next_x5);
    put_x(token + 48u, four, next_x6);
    put_x(token + 56u, four, next_x7);
    put_w(row, eight, next_w0, w0 + k + eight);
    put_w(row + 16u, eight, next_w1, w1 + k + eight);
    put_w(row + 32u, eight, next_w2, w2 + k + eight);
    put_w(row + 48u, eight, next_w3, w3 + k + eight);
    put_w(row + 64u, eight, next_w4, w4 + k + eight);
    put_w(row + 80u, eight, next_w5, w5 + k + eight);
    put_w(row + 96u, eight, next_w6, w6 + k + eight);
    put_w(row + 112u, eight, next_w7, w7 + k + eight);
    workgroupBarrier();
    next_x0 = x_four(x0, 2u * (k + EIGHTS) + four);
    next_x1 = x_four(x1, 2u * (k + EIGHTS) + four);
    next_x2 = x_four(x2, 2u * (k + EIGHTS) + four);
    next_x3 = x_four(x3, 2u * (k + EIGHTS) + four);
    next_x4 = x_four(x4, 2u * (k + EIGHTS) + four);
    next_x5 = x_four(x5, 2u * (k + EIGHTS) + four);
    next_x6 = x_four(x6, 2u * (k + EIGHTS) + four);
    next_x7 = x_four(x7, 2u * (k + EIGHTS) + four);
    next_w0 = w_eight(w0, k + EIGHTS + eight);
    next_w1 = w_eight(w1, k + EIGHTS + eight);
    next_w2 = w_eight(w2, k + EIGHTS + eight);
    next_w3 = w_eight(w3, k + EIGHTS + eight);
    next_w4 = w_eight(w4, k + EIGHTS + eight);
    next_w5 = w_eight(w5, k + EIGHTS + eight);
    next_w6 = w_eight(w6, k + EIGHTS + eight);
    next_w7 = w_eight(w7, k + EIGHTS + eight);
    multiply(m * STRIDE, n * STRIDE);
    multiply(m * STRIDE + 4u, n * STRIDE + 4u);
    multiply(m * STRIDE + 8u, n * STRIDE + 8u);
    multiply(m * STRIDE + 12u, n * STRIDE + 12u);
    workgroupBarrier();
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
}
