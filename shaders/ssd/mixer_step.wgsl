// One token through consecutive Mamba-2 blocks in one dispatch (arXiv 2405.21060, the recurrent form): of each `matvec`,
// `mixer_update` and `matvec`, x ← x + scale · out_proj(RMSNorm(mixer(in_proj(RMSNorm(x))))), for one group of B and C, 128
// states, four taps. What the blocks have of their own lies in rows of equal buffers, each bound as one.
//
// A workgroup computes what it alone needs of in_proj, z and x of OWN channels, and its part of what all need, B, C and dt,
// which comes first, so that by the time it is needed it has long been there. It updates the state of its channels, takes y as
// all have made it, and has its share of out_proj; before the next block it takes x. So all workgroups must run at the same
// time: WGSL promises no such thing, a host tries before it relies on it, nobody waits longer than `patience`, and who gives
// up says so in `sync` and leaves no number in x.
//
// A team of WIDTH lanes holds x, an eight each, and goes through rows four at a time, two of out_proj, which are twice as
// long. Such quads are asked for SLOTS ahead, whatever has to be waited for meanwhile and from block to block, and stay where
// they are loaded: a copy would have to wait for them. A loop over stages is written out, so that which is where is known.
//
// NVIDIA's compiler has one counter for all loads that are on their way, so who waits for one waits for those asked for since.
// What the state needs is therefore asked for, and used, before the first of out_proj is asked for.
struct Params {
  cols: u32, rows: u32, // of in_proj, as a matrix's prelude wants them
  eps: f32, gated_eps: f32, scale: f32, z_scale: f32, dt_scale: f32, dt_min: f32, dt_max: f32, patience: u32, dry: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> out_weight: array<Word>;            // (DIM, INNER), in the format of in_proj
@group(0) @binding(3) var<storage, read> norm: array<vec4<f32>>;             // (DIM)
@group(0) @binding(4) var<storage, read> gated_norm: array<vec4<f32>>;       // (INNER)
@group(0) @binding(5) var<storage, read> conv: array<f32>;                   // weight (CHANNELS, TAPS), then bias (CHANNELS)
@group(0) @binding(6) var<storage, read> per_head: array<f32>;               // dt_bias (H), A_log (H), D (H)
@group(1) @binding(0) @coherent @volatile var<storage, read_write> sync: array<vec4<u32>>; // shared/waiting.wgsl
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> x: array<vec4<f32>>;          // (1, DIM)
@group(1) @binding(3) var<storage, read_write> conv_state: array<f32>;       // (TAPS, CHANNELS)
@group(1) @binding(4) var<storage, read_write> ssm: array<vec4<f32>>;        // (INNER, N)

const BEHIND_SUMS = 0u;

// Quads behind those of a block: the first of the next.
fn behind(i: u32, at: Place) -> Quad {
  if (nth + 1u == BLOCKS) { return Quad(); }
  return in_quad(nth + 1u, i, at);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  if (params.dry != 0u) {
    meet(thread, id.x);
    return;
  }
  let at = Place(id.x, thread / WIDTH, thread % WIDTH);
  let position = first_position();
  var weights = norm_of(at.lane);
  var quads: array<Quad, 4>;
  begin(at, thread, &quads);
  var v = Eight(x[2u * at.lane], x[2u * at.lane + 1u]);
  loop {
    through_block(at, thread, position, v, weights, &quads);
    nth += 1u;
    if (nth == BLOCKS) { break; }
    weights = norm_of(at.lane);
    workgroupBarrier(); // the sums of out_proj are no longer needed
    v = take_x(at.lane);
  }
  end(at, thread);
}
