// Sums of products for a tile of 64 by 64, sixteen of them staged at a time, in a workgroup of 8 by 16 invocations: each has
// four rows by eight columns in registers. A body puts numbers to LEFT and RIGHT and, between barriers, calls `multiply_all`.
const TILE = 64u;
const STEP = 16u;  // products staged at a time
const QUADS = 17u; // TILE / 4, and one against bank conflicts
const LEFT = 0u;   // [step][quad of rows]
const RIGHT = 272u; // [step][quad of columns]
var<workgroup> staged: array<vec4<f32>, 544>;
var<private> sums: array<vec4<f32>, 8>; // [row][columns from 4·x, columns from 4·x + 32]

struct Next { left: Eight, right: Eight } // as loaded: whatever is done to them before they are put waits for them

fn xbc8(at: u32, stride: u32) -> Eight {
  let lo = vec4(xbc[at], xbc[at + stride], xbc[at + 2u * stride], xbc[at + 3u * stride]);
  let next = at + 4u * stride;
  return Eight(lo, vec4(xbc[next], xbc[next + stride], xbc[next + 2u * stride], xbc[next + 3u * stride]));
}

// One step: three loads from workgroup memory feed 32 multiply-adds.
fn multiply(step: u32, local: vec3<u32>) {
  let l = staged[LEFT + step * QUADS + local.y];
  let r = staged[RIGHT + step * QUADS + local.x];
  let s = staged[RIGHT + step * QUADS + local.x + 8u];
  sums[0] += l.x * r;
  sums[1] += l.x * s;
  sums[2] += l.y * r;
  sums[3] += l.y * s;
  sums[4] += l.z * r;
  sums[5] += l.z * s;
  sums[6] += l.w * r;
  sums[7] += l.w * s;
}

// The sum of row 4·y + i and the j-th of this invocation's columns, and which column that is.
fn sum_of(i: u32, j: u32) -> f32 { return sums[2u * i + j / 4u][j % 4u]; }
fn column_of(local: vec3<u32>, j: u32) -> u32 { return 4u * local.x + j % 4u + j / 4u * 32u; }
