// From wishes to a list: the token bucket where there is a bound (spec §1.3), then the indices of the selected tokens in order,
// and the sizes of the indirect dispatches that run over them only.
//   args: [tiles of 64 selected rows, row_tiles, 1, –] for the projections, [heads, tiles of `queries`, 1, –] for the attention
// One workgroup of 256, 32 tokens to an invocation, as the bits of a word. The bucket is serial by nature: one invocation takes
// the words through it, which are in workgroup memory by then.
struct Params { capacity: u32, q_tiles: u32, o_tiles: u32, heads: u32, queries: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> control: array<u32>;
@group(1) @binding(1) var<storage, read_write> sal: array<u32>;
@group(1) @binding(2) var<storage, read_write> selection: array<u32>;
@group(1) @binding(3) var<storage, read_write> args: array<u32>;    // three rows of 4: q_proj, attention, o_proj

const WIDTH = 256u;
var<workgroup> words: array<u32, WIDTH>;
var<workgroup> counts: array<u32, WIDTH>;
var<workgroup> totals: array<u32, 16>; // of sixteen invocations

fn wish(t: u32, tokens: u32) -> u32 {
  return select(0u, selection[mask_at(min(t, tokens - 1u), params.capacity)], t < tokens);
}

// Of eight tokens, the first in the lowest bit.
fn eight_wishes(t: u32, tokens: u32) -> u32 {
  let a = vec4(wish(t, tokens), wish(t + 1u, tokens), wish(t + 2u, tokens), wish(t + 3u, tokens));
  let b = vec4(wish(t + 4u, tokens), wish(t + 5u, tokens), wish(t + 6u, tokens), wish(t + 7u, tokens));
  return dot(a, vec4(1u, 2u, 4u, 8u)) + dot(b, vec4(16u, 32u, 64u, 128u));
}

fn apply_bound(tokens: u32) {
  var bucket = Bucket(sal[CREDIT], sal[SELECTED], sal[REFUSED], sal[RATE], sal[BURST]);
  for (var t = 0u; t < tokens; t += 32u) { words[t / 32u] = admit(&bucket, words[t / 32u], min(tokens - t, 32u)); }
  sal[CREDIT] = bucket.credit;
  sal[SELECTED] = bucket.selected;
  sal[REFUSED] = bucket.refused;
}

fn write_args(row: u32, x: u32, y: u32) {
  args[4u * row] = x;
  args[4u * row + 1u] = y;
  args[4u * row + 2u] = 1u;
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(local_invocation_index) lane: u32) {
  let tokens = control[TOKENS];
  let first = 32u * lane;
  var wishes = 0u;
  if (first < tokens) {
    let low = eight_wishes(first, tokens) | (eight_wishes(first + 8u, tokens) << 8u);
    wishes = low | (eight_wishes(first + 16u, tokens) << 16u) | (eight_wishes(first + 24u, tokens) << 24u);
  }
  words[lane] = wishes;
  workgroupBarrier();
  if (lane == 0u && sal[RATE] != 0u) { apply_bound(tokens); }
  workgroupBarrier();
  var granted = words[lane];
  var refused = wishes & ~granted;
  while (refused != 0u) {
    selection[mask_at(first + countTrailingZeros(refused), params.capacity)] = 0u;
    refused &= refused - 1u;
  }
  counts[lane] = countOneBits(granted);
  workgroupBarrier();
  var at = 0u;
  for (var i = lane / 16u * 16u; i < lane; i += 1u) { at += counts[i]; }
  if (lane % 16u == 15u) { totals[lane / 16u] = at + counts[lane]; }
  workgroupBarrier();
  for (var i = 0u; i < lane / 16u; i += 1u) { at += totals[i]; }
  while (granted != 0u) {
    selection[index_at(at, params.capacity)] = first + countTrailingZeros(granted);
    at += 1u;
    granted &= granted - 1u;
  }
  if (lane == WIDTH - 1u) { // its running count is the total
    if (sal[RATE] == 0u) { sal[SELECTED] += at; }
    selection[COUNT] = at;
    write_args(0u, (at + 63u) / 64u, params.q_tiles);
    write_args(1u, params.heads, (at + params.queries - 1u) / params.queries);
    write_args(2u, (at + 63u) / 64u, params.o_tiles);
  }
}
