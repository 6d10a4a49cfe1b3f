// Staging for `products.wgsl` where steps lie side by side: an invocation puts one of them, of every eighth row (or column).
fn column_step(lane: u32) -> u32 { return lane % 16u; }
fn first_row(lane: u32) -> u32 { return lane / 16u; }

fn put_steps(side: u32, lane: u32, v: Eight) {
  let at = side + column_step(lane) * QUADS + lane / 64u;
  let r = first_row(lane) % 4u;
  staged[at][r] = v.lo.x;
  staged[at + 2u][r] = v.lo.y;
  staged[at + 4u][r] = v.lo.z;
  staged[at + 6u][r] = v.lo.w;
  staged[at + 8u][r] = v.hi.x;
  staged[at + 10u][r] = v.hi.y;
  staged[at + 12u][r] = v.hi.z;
  staged[at + 14u][r] = v.hi.w;
}
