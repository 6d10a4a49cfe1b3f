// Decays between the tokens of a chunk as sums over their own segments: whoever goes through a row of pairs (i, j) from the last
// j to the first keeps `tail`, Σ dA over the tokens after j's quad up to i. A body fills the arrays.
var<workgroup> decays: array<vec4<f32>, 16>; // dA of the chunk's tokens, and zeros
var<workgroup> dts: array<vec4<f32>, 16>;
var<workgroup> decayed: array<f32, 64>;      // exp(prefix)

// What da says of the first tokens of a chunk, and zeros; `at` is where token `lane` has its dt.
fn put_decays(lane: u32, at: u32, heads: u32, inside: bool) {
  dts[lane / 4u][lane % 4u] = select(0.0, da[at], inside);
  decays[lane / 4u][lane % 4u] = select(0.0, da[at + heads], inside);
  decayed[lane] = exp(select(0.0, da[at + 2u * heads], inside));
}

// dA of four tokens, as far as they are not after i.
fn decay(i: u32, quad: u32) -> vec4<f32> {
  return select(vec4(0.0), decays[quad], 4u * quad + vec4(0u, 1u, 2u, 3u) <= vec4(i));
}

// Σ dA over the tokens from a quad's first up to i; `tail` is that over the tokens after the quad.
fn with_quad(i: u32, quad: u32, tail: f32) -> f32 {
  let d = decay(i, quad);
  return tail + d.w + d.z + d.y + d.x;
}

// For each j of a quad exp(Σ dA over the tokens after j up to i)·dt_j.
fn weights(i: u32, quad: u32, tail: f32) -> vec4<f32> {
  let d = decay(i, quad);
  return exp(vec4(tail + d.w + d.z + d.y, tail + d.w + d.z, tail + d.w, tail)) * dts[quad];
}

// The part of sixteen tokens j0 … that one of two invocations of row i has: the earlier eight, or the later.
struct Half { weights: Eight, quad: u32, tail: f32 } // of its eight tokens, its first quad, Σ dA from j0 on

fn half_of(i: u32, j0: u32, late: bool, tail: f32) -> Half {
  let middle = with_quad(i, j0 / 4u + 2u, with_quad(i, j0 / 4u + 3u, tail));
  let quad = j0 / 4u + select(0u, 2u, late);
  let after = select(middle, tail, late);
  let eight = Eight(weights(i, quad, with_quad(i, quad + 1u, after)), weights(i, quad + 1u, after));
  return Half(eight, quad, with_quad(i, j0 / 4u, with_quad(i, j0 / 4u + 1u, middle)));
}
