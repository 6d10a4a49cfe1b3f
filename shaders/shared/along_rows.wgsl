// Staging for `products.wgsl` where rows (or columns) lie side by side: an invocation puts one of them, of every other step.
fn own_row(lane: u32) -> u32 { return lane % 64u; }
fn own_step(lane: u32) -> u32 { return lane / 64u; } // and the second after it …

fn put_rows(side: u32, lane: u32, v: Eight) {
  let at = side + own_step(lane) * QUADS + own_row(lane) / 4u;
  let r = lane % 4u;
  staged[at][r] = v.lo.x;
  staged[at + 2u * QUADS][r] = v.lo.y;
  staged[at + 4u * QUADS][r] = v.lo.z;
  staged[at + 6u * QUADS][r] = v.lo.w;
  staged[at + 8u * QUADS][r] = v.hi.x;
  staged[at + 10u * QUADS][r] = v.hi.y;
  staged[at + 12u * QUADS][r] = v.hi.z;
  staged[at + 14u * QUADS][r] = v.hi.w;
}
