// Where many workgroups look at the logits first: of each few of them, after the repeat penalty, the largest and its id, for
// `sample` to start from. An invocation has eight fours, a workgroup's width apart.
struct Params { vocab: u32, recent: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<vec4<f32>>;         // (1, vocab), the session's logits
@group(1) @binding(1) var<storage, read> recent: array<u32>;               // (recent) slot = position % recent
@group(1) @binding(2) var<storage, read> control: array<u32>;
@group(1) @binding(3) var<storage, read> options: array<u32>;
@group(1) @binding(4) var<storage, read_write> maxima: array<u32>;         // (2, invocations) keys, then ids
@group(1) @binding(5) var<storage, read_write> adjusted: array<vec4<f32>>; // (1, vocab) a copy, if penalised

const WIDTH = PART;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let penalises = option_f32(PENALTY) != 1.0; // a private variable would not be seen to be the same everywhere
  penalised = penalises;
  let first = group.x * 8u * WIDTH;
  if (penalises) {
    for (var i = 0u; i < 8u; i += 1u) {
      let at = first + lane + i * WIDTH;
      if (4u * at < params.vocab) { adjusted[at] = source[at]; }
    }
    storageBarrier();
    penalise(lane, WIDTH, 4u * first, 4u * (first + 8u * WIDTH));
    storageBarrier();
  }
  let found = best_of(first + lane, WIDTH);
  let at = group.x * WIDTH + lane;
  maxima[at] = found.x;
  maxima[groups.x * WIDTH + at] = found.y;
}
