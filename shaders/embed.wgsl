// hidden[t, :] = scale · weight[ids[t], :], for the token ids of a segment.
// A workgroup per (64 columns-of-8, token). The first workgroup also advances the session: it pushes the segment's ids
// into the ring of recent ids and adds the segment's length to CONSUMED; nothing else in this dispatch reads either.
struct Params { cols: u32, first_row: u32, rows: u32, recent: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> ids: array<u32>;                 // (tokens)
@group(1) @binding(1) var<storage, read_write> control: array<u32>;       // (4)
@group(1) @binding(2) var<storage, read_write> recent: array<u32>;        // (recent) slot = position % recent
@group(1) @binding(3) var<storage, read_write> hidden: array<vec4<f32>>;  // (tokens, cols)

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  // Of a table split by rows only the first piece advances the session.
  if (group.x == 0u && group.y == 0u && params.first_row == 0u) {
    let tokens = control[TOKENS];
    let consumed = control[CONSUMED];
    let kept = min(tokens, params.recent);
    for (var t = tokens - kept + local.x; t < tokens; t += 64u) {
      recent[(consumed + t) % params.recent] = ids[t];
    }
    storageBarrier();
    if (local.x == 0u) { control[CONSUMED] = consumed + tokens; }
  }
  let eights = row_stride(params.cols) / 8u;
  let column = group.x * 64u + local.x;
  let row = ids[group.y] - params.first_row; // wraps to a huge number below the piece
  if (column < eights && row < params.rows) {
    let e = weight8(row * weight_stride(params.cols) + column);
    let at = (group.y * eights + column) * 2u;
    hidden[at] = e.lo * params.scale;
    hidden[at + 1u] = e.hi * params.scale;
  }
}
