// Sums of products for a tile of 64 by 64, sixteen of them staged at a time, in a workgroup of 16 by 16 invocations: each has
// four rows by four columns in registers. A body fills `left` and `right` and, between barriers, calls `multiply_all`.
const TILE = 64u;
const STEP = 16u; // products staged at a time
const QUADS = 17u; // TILE / 4, and one against bank conflicts
var<workgroup> left: array<vec4<f32>, 272>;  // [step][quad of rows]
var<workgroup> right: array<vec4<f32>, 272>; // [step][quad of columns]
var<private> sums: array<vec4<f32>, 4>;      // [row][column]

// One step: two loads from workgroup memory feed 16 multiply-adds.
fn multiply(step: u32, local: vec3<u32>) {
  let l = left[step * QUADS + local.y];
  let r = right[step * QUADS + local.x];
  sums[0] += l.x * r;
  sums[1] += l.y * r;
  sums[2] += l.z * r;
  sums[3] += l.w * r;
}
