// From wishes to a list: the token bucket (spec §1.3, serial by nature, a few hundred integer steps), then the indices of the
// selected tokens in order, and the sizes of the indirect dispatches that run over them only.
//   args: [tiles of 64 selected rows, row_tiles, 1, –] for the projections, [selected, heads, 1, –] for the attention
// One workgroup of 256; each invocation counts its run of tokens, one adds up the runs.
struct Params { capacity: u32, q_tiles: u32, o_tiles: u32, heads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> control: array<u32>;
@group(1) @binding(1) var<storage, read_write> sal: array<u32>;
@group(1) @binding(2) var<storage, read_write> selection: array<u32>;
@group(1) @binding(3) var<storage, read_write> args: array<u32>;    // three rows of 4: q_proj, attention, o_proj

const WIDTH = 256u;
var<workgroup> counts: array<u32, WIDTH>;

fn apply_bound(tokens: u32) {
  var bucket = Bucket(sal[CREDIT], sal[SELECTED], sal[REFUSED], sal[RATE], sal[BURST]);
  for (var t = 0u; t < tokens; t += 1u) {
    let at = mask_at(t, params.capacity);
    selection[at] = admit(&bucket, selection[at]);
  }
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
  if (lane == 0u) { apply_bound(tokens); }
  storageBarrier();
  let run = (tokens + WIDTH - 1u) / WIDTH;
  let begin = min(lane * run, tokens);
  let end = min(begin + run, tokens);
  var count = 0u;
  for (var t = begin; t < end; t += 1u) { count += selection[mask_at(t, params.capacity)]; }
  counts[lane] = count;
  workgroupBarrier();
  var at = 0u;
  for (var i = 0u; i < lane; i += 1u) { at += counts[i]; }
  for (var t = begin; t < end; t += 1u) {
    if (selection[mask_at(t, params.capacity)] == 1u) {
      selection[index_at(at, params.capacity)] = t;
      at += 1u;
    }
  }
  if (lane == WIDTH - 1u) { // its running count is the total
    selection[COUNT] = at;
    write_args(0u, (at + 63u) / 64u, params.q_tiles);
    write_args(1u, at, params.heads);
    write_args(2u, (at + 63u) / 64u, params.o_tiles);
  }
}
