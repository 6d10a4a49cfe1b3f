// One token through Mamba-2 blocks and, after every PERIOD of them, a layer of selective attention with its MLP, in one dispatch:
// what `mixer_step` does for the blocks, and of each layer `token_gate_kv`, `matvec`, `token_attention`, `matvec`, `matvec` and
// `matvec` (arXiv 2410.18572), for heads of 64 channels that are not rotated. What is said there of waiting holds here.
//
// Every workgroup computes the gate itself, so all know at once whether the token is selected. If it is not, the layer takes one
// wait: keys and values go to the window, which nobody reads yet, and the MLP's output to all. If it is, queries go to those who
// attend, a part of a head's positions each, what these come to goes to all, and so does x with what o_proj makes of that.
struct Params {
  cols: u32, rows: u32, // of in_proj, as a matrix's prelude wants them
  eps: f32, gated_eps: f32, scale: f32, z_scale: f32, dt_scale: f32, dt_min: f32, dt_max: f32, patience: u32, dry: u32,
  window: u32, capacity: u32, attention_scale: f32, up_scale: f32, down_scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> out_weight: array<Word>;            // (DIM, INNER), in the format of in_proj
@group(0) @binding(3) var<storage, read> norm: array<vec4<f32>>;             // (DIM)
@group(0) @binding(4) var<storage, read> gated_norm: array<vec4<f32>>;       // (INNER)
@group(0) @binding(5) var<storage, read> conv: array<f32>;                   // weight (CHANNELS, TAPS), then bias (CHANNELS)
@group(0) @binding(6) var<storage, read> per_head: array<f32>;               // dt_bias (H), A_log (H), D (H)
@group(0) @binding(7) var<storage, read> layer_weight: array<Word>;          // W_kv, W_q, W_o, W_gate and W_up in turn, W_down
@group(0) @binding(8) var<storage, read> gate: array<vec4<f32>>;             // norm (DIM), W_g (2, DIM), b_g (2), end to end
@group(0) @binding(9) var<storage, read> mlp_norm: array<vec4<f32>>;         // (DIM)
@group(1) @binding(0) @coherent @volatile var<storage, read_write> sync: array<vec4<u32>>; // shared/waiting.wgsl
@group(1) @binding(1) var<storage, read> control: array<u32>;
@group(1) @binding(2) var<storage, read_write> x: array<vec4<f32>>;          // (1, DIM)
@group(1) @binding(3) var<storage, read_write> conv_state: array<f32>;       // (TAPS, CHANNELS)
@group(1) @binding(4) var<storage, read_write> ssm: array<vec4<f32>>;        // (INNER, N)
@group(1) @binding(5) var<storage, read_write> window: array<vec4<f32>>;     // (window, KV) k then v, slot = position % window
@group(1) @binding(6) var<storage, read_write> sal: array<u32>;              // the bucket
@group(1) @binding(7) var<storage, read_write> selection: array<u32>;

override PERIOD: u32 = 1u;   // blocks before a layer
override KV: u32 = 128u;     // rows of W_kv
override MLP: u32 = 64u;     // columns of W_down
override PARTS: u32 = 1u;    // of the positions that a head sees
const HEAD = 16u;            // fours of a head
const PART = 72u;            // numbers of a part: 64 sums, highest, total, and what makes whole sectors
override EIGHTS: u32 = MLP / 8u; // of a row of W_down
override KV_QUADS: u32 = ((KV + WORKGROUPS - 1u) / WORKGROUPS + 4u * TEAMS - 1u) / (4u * TEAMS);
override DIM_QUADS: u32 = (OUT_ROWS + 4u * TEAMS - 1u) / (4u * TEAMS); // of W_q and W_o
override UP_QUADS: u32 = ((MLP + WORKGROUPS - 1u) / WORKGROUPS + 2u * TEAMS - 1u) / (2u * TEAMS);
override DOWN_QUADS: u32 = (OUT_ROWS + TEAMS - 1u) / TEAMS;
// Where in the order of quads each matrix ends; each in whole SLOTS.
override KV_END: u32 = (KV_QUADS + SLOTS - 1u) / SLOTS * SLOTS;
override UP_END: u32 = (UP_QUADS + SLOTS - 1u) / SLOTS * SLOTS;
override DOWN_END: u32 = (DOWN_QUADS + SLOTS - 1u) / SLOTS * SLOTS;
// Sums of gate and up are behind those of keys and values, which some may still want.
override UP_SUMS: u32 = 4u * KV_END;
override BEHIND_SUMS: u32 = max(UP_SUMS + 4u * UP_END, max(DOWN_END + 3u, 4u * HEAD + 2u));
// Where numbers are among those that are given.
override KV_GIVEN: u32 = Y_GIVEN + INNER;
override Q_GIVEN: u32 = KV_GIVEN + KV;
override MLP_GIVEN: u32 = Q_GIVEN + DIM;
override PARTS_GIVEN: u32 = MLP_GIVEN + MLP;
override UNITS: u32 = DIM / (4u * HEAD) * PARTS;
// Where matrices are among the weights of a layer.
override HALVES: u32 = 2u * WORD_BYTES + select(0u, 1u, GROUPED); // two eights take as many bytes, scales included
override Q_AT: u32 = (KV * WIDTH * HALVES / 2u + 255u) / 256u * (256u / WORD_BYTES);
override DIM_WORDS: u32 = (DIM * WIDTH * HALVES / 2u + 255u) / 256u * (256u / WORD_BYTES);
override UP_AT: u32 = Q_AT + 2u * DIM_WORDS;
override DOWN_AT: u32 = UP_AT + (2u * MLP * WIDTH * HALVES / 2u + 255u) / 256u * (256u / WORD_BYTES);
override LAYER_STRIDE: u32 = DOWN_AT + (DIM * EIGHTS * HALVES / 2u + 255u) / 256u * (256u / WORD_BYTES);
override GATE_STRIDE: u32 = (3u * DIM + 64u) / 4u; // fours
const SAL_STRIDE = 64u;

struct Chosen { granted: u32, alpha: f32 }
var<workgroup> chosen: Chosen;
var<workgroup> bucket: Bucket;
var<workgroup> gate_words: array<u32, 7>; // the bucket as it was, and the gate's bias

fn layer_stored(first: u32, eights: u32, i: u32) -> Stored {
  if (GROUPED) { return stored_of(layer_weight[first + i], layer_weight[first + scales_at(eights, i)], i); }
  return stored_of(layer_weight[first + i], Word(), i);
}

// An eight of a row of DIM columns, of rows that are shared out.
fn row_eight(first: u32, rows: u32, j: u32, at: Place) -> Stored {
  if (j >= count_of(at.group, rows)) { return Stored(); }
  return layer_stored(first, rows * WIDTH, (first_of(at.group, rows) + j) * WIDTH + at.lane);
}

fn row_quad(first: u32, rows: u32, q: u32, at: Place) -> Quad {
  let j = at.team + 4u * q * TEAMS;
  return Quad(
    row_eight(first, rows, j, at),
    row_eight(first, rows, j + TEAMS, at),
    row_eight(first, rows, j + 2u * TEAMS, at),
    row_eight(first, rows, j + 3u * TEAMS, at),
  );
}

// Gate and up of two outputs.
fn up_quad(first: u32, q: u32, at: Place) -> Quad {
  let c = 2u * (at.team + q * TEAMS);
  let count = count_of(at.group, MLP);
  if (c >= count) { return Quad(); }
  let i = 2u * (first_of(at.group, MLP) + c) * WIDTH + at.lane;
  let eights = 2u * MLP * WIDTH;
  // An odd number of outputs ends with one that is not there.
  let j = select(i, i + 2u * WIDTH, c + 1u < count);
  return Quad(
    layer_stored(first, eights, i),
    layer_stored(first, eights, i + WIDTH),
    layer_stored(first, eights, j),
    layer_stored(first, eights, j + WIDTH),
  );
}

// Three eights of a row of W_down, which is longer than two rows of the others and not longer than three. Four rows in three quads
// were no faster.
fn down_quad(first: u32, q: u32, at: Place) -> Quad {
  let j = at.team + q * TEAMS;
  if (j >= count_of(at.group, DIM)) { return Quad(); }
  let i = (first_of(at.group, DIM) + j) * EIGHTS + at.lane;
  var last = Stored();
  if (at.lane + 2u * WIDTH < EIGHTS) { last = layer_stored(first, DIM * EIGHTS, i + 2u * WIDTH); }
  return Quad(layer_stored(first, DIM * EIGHTS, i), layer_stored(first, DIM * EIGHTS, i + WIDTH), last, Stored());
}

// The quads of a layer in the order in which they are needed by an unselected token, and then those of the next block.
fn layer_quad(layer: u32, i: u32, at: Place) -> Quad {
  let first = layer * LAYER_STRIDE;
  if (i < KV_END) { return row_quad(first, KV, i, at); }
  if (i < KV_END + UP_END) { return up_quad(first + UP_AT, i - KV_END, at); }
  if (i < KV_END + UP_END + DOWN_END) { return down_quad(first + DOWN_AT, i - KV_END - UP_END, at); }
  if (nth == BLOCKS) { return Quad(); }
  return in_quad(nth, i - KV_END - UP_END - DOWN_END, at);
}

// Quads behind those of a block.
fn behind(i: u32, at: Place) -> Quad {
  if ((nth + 1u) % PERIOD == 0u) { return layer_quad(nth / PERIOD, i, at); }
  return in_quad(nth + 1u, i, at);
}

fn gate_number(layer: u32, i: u32) -> f32 { return gate[layer * GATE_STRIDE + i / 4u][i % 4u]; }

// Asks for the bucket and the gate's bias.
fn ask_gate(layer: u32, thread: u32) {
  if (thread < 5u) { gate_words[thread] = sal[layer * SAL_STRIDE + thread]; }
  if (thread >= 5u && thread < 7u) { gate_words[thread] = bitcast<u32>(gate_number(layer, 3u * DIM + thread - 5u)); }
}

// What the token's scores and the bucket come to; the first workgroup writes it down, when all have read the bucket.
fn decide(s: vec2<f32>) {
  let biased = s + bitcast<vec2<f32>>(vec2(gate_words[5], gate_words[6]));
  var next = Bucket(
    gate_words[CREDIT], gate_words[SELECTED], gate_words[REFUSED], gate_words[RATE], gate_words[BURST],
  );
  let granted = admit(&next, select(0u, 1u, biased.y > biased.x), 1u);
  chosen = Chosen(granted, sigmoid(biased.y - biased.x));
  bucket = next;
}

fn write_down(layer: u32) {
  sal[layer * SAL_STRIDE + CREDIT] = bucket.credit;
  sal[layer * SAL_STRIDE + SELECTED] = bucket.selected;
  sal[layer * SAL_STRIDE + REFUSED] = bucket.refused;
  let first = layer * ((HEADER + 3u * params.capacity + 63u) / 64u * 64u);
  selection[first + COUNT] = chosen.granted;
  selection[first + alpha_at(0u)] = bitcast<u32>(chosen.alpha);
  selection[first + mask_at(0u, params.capacity)] = chosen.granted;
  selection[first + index_at(0u, params.capacity)] = 0u;
}

// Four of an eight of the MLP's outputs, or what does not count behind the last.
fn mlp_given(i: u32, half: u32) -> vec4<u32> {
  if (i >= EIGHTS) { return vec4(bit); }
  return four_given(MLP_GIVEN + 8u * i + half);
}

fn layer(at: Place, thread: u32, position: u32, quads: ptr<function, array<Quad, 4>>) {
  let lane = at.lane;
  let which = nth / PERIOD - 1u;
  let g = which * GATE_STRIDE + 2u * lane;
  let weights = Eight(gate[g], gate[g + 1u]);
  let a = Eight(gate[g + DIM / 4u], gate[g + DIM / 4u + 1u]);
  let b = Eight(gate[g + DIM / 2u], gate[g + DIM / 2u + 1u]);
  ask_gate(which, thread);
  rounds.layer += 1u;
  workgroupBarrier(); // the sums of out_proj are no longer needed
  var v = take_x(lane);

  // The gate, keys and values.
  let normed = Eight(v.lo * weights.lo, v.hi * weights.hi);
  let scores = vec2(dot(normed.lo, a.lo) + dot(normed.hi, a.hi), dot(normed.lo, b.lo) + dot(normed.hi, b.hi));
  keep(thread, SQUARES, vec4(squares(v), scores, 0.0));
  var scale = 0.0;
  for (var stage = 0u; stage < KV_END; stage += 1u) {
    var rows = vec4(0.0);
    if (stage < KV_QUADS) { rows = four_rows(lane, (*quads)[stage % SLOTS], normed.lo, normed.hi); }
    (*quads)[stage % SLOTS] = layer_quad(which, stage + SLOTS, at);
    if (stage < KV_QUADS) { keep(thread, 4u * stage, rows); }
    if (stage == 0u) {
      workgroupBarrier();
      scale = inverseSqrt(total(0u, SQUARES) / f32(DIM) + params.eps);
      if (thread == 0u) { decide(scale * vec2(total(0u, SQUARES + 1u), total(0u, SQUARES + 2u))); }
    }
  }
  let selected = workgroupUniformLoad(&chosen).granted != 0u;
  bit = rounds.layer & 1u;
  for (var j = thread; j < count_of(at.group, KV); j += THREADS) {
    let row = first_of(at.group, KV) + j;
    let number = scale * total(j % TEAMS, j / TEAMS);
    give(KV_GIVEN + row, number);
    window[window_row(which, position) + row / 4u][row % 4u] = number;
  }
  if (selected) {
    workgroupBarrier(); // the sums are no longer needed
    v = attend(at, thread, position, which, scale, normed);
    keep(thread, SQUARES, vec4(squares(v), 0.0, 0.0, 0.0));
  }

  // Gate and up.
  let m = which * DIM / 4u + 2u * lane;
  let lo = v.lo * mlp_norm[m];
  let hi = v.hi * mlp_norm[m + 1u];
  for (var stage = 0u; stage < UP_END; stage += 1u) {
    var rows = vec4(0.0);
    if (stage < UP_QUADS) { rows = four_rows(lane, (*quads)[stage % SLOTS], lo, hi); }
    (*quads)[stage % SLOTS] = layer_quad(which, KV_END + stage + SLOTS, at);
    if (stage < UP_QUADS) { keep(thread, UP_SUMS + 4u * stage, rows); }
  }
  workgroupBarrier();
  let mlp_scale = inverseSqrt(total(0u, SQUARES) / f32(DIM) + params.eps);
  bit = rounds.layer & 1u;
  for (var j = thread; j < count_of(at.group, MLP); j += THREADS) {
    let team = j / 2u % TEAMS;
    let k = UP_SUMS + 4u * (j / (2u * TEAMS)) + 2u * (j % 2u);
    let number = silu(params.up_scale * mlp_scale * total(team, k)) * (mlp_scale * total(team, k + 1u));
    give(MLP_GIVEN + first_of(at.group, MLP) + j, number);
  }
  workgroupBarrier(); // the sums are no longer needed

  // Down.
  var a0 = vec4(~bit);
  var a1 = a0;
  var a2 = a0;
  var a3 = a0;
  var a4 = a0;
  var a5 = a0;
  var all = false;
  for (var tries = 1u; !all && patient(tries); tries += 1u) {
    a0 = mlp_given(lane, 0u);
    a1 = mlp_given(lane, 4u);
    a2 = mlp_given(lane + WIDTH, 0u);
    a3 = mlp_given(lane + WIDTH, 4u);
    a4 = mlp_given(lane + 2u * WIDTH, 0u);
    a5 = mlp_given(lane + 2u * WIDTH, 4u);
    all = there(a0) && there(a1) && there(a2) && there(a3) && there(a4) && there(a5);
  }
  waited(all);
  let m0 = numbers(a0);
  let m1 = numbers(a1);
  let m2 = numbers(a2);
  let m3 = numbers(a3);
  let m4 = numbers(a4);
  let m5 = numbers(a5);
  var sums = vec4(0.0);
  for (var stage = 0u; stage < DOWN_END; stage += 1u) {
    if (stage < DOWN_QUADS) {
      let q = (*quads)[stage % SLOTS];
      let i = (first_of(at.group, DIM) + at.team + stage * TEAMS) * EIGHTS + lane; // rows are whole eights of eights only
      sums[stage % 4u] = dot8(q.a, i, m0, m1) + dot8(q.b, i, m2, m3) + dot8(q.c, i, m4, m5);
    }
    (*quads)[stage % SLOTS] = layer_quad(which, KV_END + UP_END + stage + SLOTS, at);
    if (stage % 4u == 3u || stage + 1u == DOWN_END) { keep(thread, stage / 4u * 4u, sums); }
  }
  workgroupBarrier();
  rounds.x += 1u;
  bit = rounds.x & 1u;
  for (var j = thread; j < count_of(at.group, DIM); j += THREADS) {
    give_x(j, at.group, params.down_scale * total(j % TEAMS, j / TEAMS));
  }
  if (at.group == 0u && thread == 0u) { write_down(which); } // all have the bucket that gave an output
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
    if (nth % PERIOD == 0u) { layer(at, thread, position, &quads); }
    if (nth == BLOCKS) { break; }
    weights = norm_of(at.lane);
    workgroupBarrier(); // the last sums are no longer needed
    v = take_x(at.lane);
  }
  end(at, thread);
}
