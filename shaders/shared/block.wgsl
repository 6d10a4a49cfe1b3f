// One token through a Mamba-2 block (arXiv 2405.21060, the recurrent form) among workgroups that wait for each other, as
// `mixer_step.wgsl` has it. The body binds what is used here, has `params`, and says in `behind` which quads come behind a block.
override WIDTH: u32 = 32u;
override TEAMS: u32 = 1u;
override WORKGROUPS: u32 = 1u;
override BLOCKS: u32 = 1u;
override SLOTS: u32 = 3u; // quads that are on their way, four at most
override HEADS: u32 = 1u;
override HEAD_DIM: u32 = 64u;
const FOURS = 32u; // of a row of the state
const TAPS = 4u;
const BC = 256u; // channels of B and C
override THREADS: u32 = WIDTH * TEAMS;
override DIM: u32 = 8u * WIDTH;
override INNER: u32 = 16u * WIDTH;
override CHANNELS: u32 = INNER + BC;
override ALL: u32 = BC + HEADS; // rows of in_proj that all need
override ALL_ROWS: u32 = (ALL + WORKGROUPS - 1u) / WORKGROUPS; // of a workgroup at most
override ALL_STRIDE: u32 = (ALL_ROWS + 7u) / 8u * 8u; // a sector of the cache or several for those of each
override OWN: u32 = (INNER + WORKGROUPS - 1u) / WORKGROUPS;
override ALL_QUADS: u32 = (ALL_ROWS + 4u * TEAMS - 1u) / (4u * TEAMS);
override OWN_QUADS: u32 = (OWN + 2u * TEAMS - 1u) / (2u * TEAMS); // z and x of two channels
override IN_QUADS: u32 = ALL_QUADS + OWN_QUADS;
override OUT_ROWS: u32 = (DIM + WORKGROUPS - 1u) / WORKGROUPS; // of a workgroup at most
override OUT_QUADS: u32 = (OUT_ROWS + 2u * TEAMS - 1u) / (2u * TEAMS);
// Where x and y are among the numbers that are given, after B, C and dt.
override X_GIVEN: u32 = WORKGROUPS * ALL_STRIDE;
override Y_GIVEN: u32 = X_GIVEN + DIM;
// Where in the order of quads in_proj ends, and the block; each in whole SLOTS.
override IN_END: u32 = (IN_QUADS + SLOTS - 1u) / SLOTS * SLOTS;
override END: u32 = IN_END + (OUT_QUADS + SLOTS - 1u) / SLOTS * SLOTS;
// The stages at which what the state needs is asked for, and used, B, C and dt among it; where rows are few those come LATE.
override USED: u32 = (IN_QUADS - 1u) / SLOTS * SLOTS;
override LATE: bool = USED < ALL_QUADS + 2u;
override ASKED: u32 = select(USED - min(SLOTS, max(USED, ALL_QUADS) - ALL_QUADS), ALL_QUADS - 1u, LATE);
override SUBGROUPS: u32 = THREADS / SUBGROUP;
override PER_TEAM: u32 = WIDTH / SUBGROUP;
override FIRST: u32 = 4u * ALL_QUADS; // where the sum of the first own row is
override SQUARES: u32 = max(4u * max(IN_END, END - IN_END), BEHIND_SUMS); // and that of the squares of x or y
override SUMS: u32 = SQUARES + 4u;
override PARTIAL: u32 = SUMS * SUBGROUPS;
override LANES: u32 = min(16u, SUBGROUP); // that share a row of the state
override UNIT: u32 = THREADS / LANES; // rows of the state that a workgroup has at a time
override CONVS: u32 = BC + OWN;
override IN_EIGHTS: u32 = (2u * INNER + ALL) * WIDTH;
override OUT_EIGHTS: u32 = DIM * 2u * WIDTH;
override IN_SCALES: u32 = select(0u, IN_EIGHTS / 2u, GROUPED); // bytes
override OUT_SCALES: u32 = select(0u, OUT_EIGHTS / 2u, GROUPED);
// From what a block has to that of the next.
override IN_STRIDE: u32 = (IN_EIGHTS * WORD_BYTES + IN_SCALES + 255u) / 256u * (256u / WORD_BYTES);
override OUT_STRIDE: u32 = (OUT_EIGHTS * WORD_BYTES + OUT_SCALES + 255u) / 256u * (256u / WORD_BYTES);
override HEAD_STRIDE: u32 = (3u * HEADS + 63u) / 64u * 64u;
override CONV_STRIDE: u32 = (TAPS + 1u) * CHANNELS;

var<workgroup> partial: array<f32, PARTIAL>;
var<workgroup> convs: array<Conv, CONVS>; // of B and C, and of the own channels
var<workgroup> residual: array<f32, OUT_ROWS>;
var<workgroup> steps: array<Step, UNIT>; // of the first of the own rows
var<workgroup> bs: array<vec4<f32>, FOURS>;
var<workgroup> cs: array<vec4<f32>, FOURS>;
var<private> nth: u32 = 0u; // of the blocks
var<private> rounds: Rounds; // that are over

// Of the convolution of a channel: what the tokens before leave, and the weight of this one.
struct Conv { old: f32, weight: f32 }
// What that is made of: the bias, the weight, and raw values of the tokens before.
struct Parts { bias: f32, weight: vec4<f32>, raw: vec3<f32> }
// Of a row of the state: two of the lane's fours, and the head's dt_bias, −exp(A_log) and D.
struct Block { s0: vec4<f32>, s1: vec4<f32>, bias: f32, rate: f32, skip: f32 }
// Of a head: dt, the decay of its state, and D.
struct Step { dt: f32, decay: f32, skip: f32 }
// What is asked for before it is needed: of a convolution and of a row of the state, and B or C, and dt, if they are there.
struct Ahead { parts: Parts, block: Block, bc: u32, dt: u32 }
// Of an invocation: its workgroup, team and lane of the team.
struct Place { group: u32, team: u32, lane: u32 }
// How often numbers of each kind were given: those of a block, those of a layer of selective attention, those of one whose token
// is selected, and x, which each of these ends with.
struct Rounds { block: u32, layer: u32, chosen: u32, x: u32 }
struct Quad { a: Stored, b: Stored, c: Stored, d: Stored }

// An eight of in_proj and one of out_proj.
fn in_stored(block: u32, i: u32) -> Stored {
  let base = block * IN_STRIDE;
  if (GROUPED) { return stored_of(weight[base + i], weight[base + scales_at(IN_EIGHTS, i)], i); }
  return stored_of(weight[base + i], Word(), i);
}

fn out_stored(i: u32) -> Stored {
  let base = nth * OUT_STRIDE;
  if (GROUPED) { return stored_of(out_weight[base + i], out_weight[base + scales_at(OUT_EIGHTS, i)], i); }
  return stored_of(out_weight[base + i], Word(), i);
}

// Of rows that are shared out the first of a workgroup's. Nobody has none: what everybody gave in one half of a block says that
// they have what was given in the other.
fn first_of(group: u32, rows: u32) -> u32 { return group * (rows / WORKGROUPS) + min(group, rows % WORKGROUPS); }

fn count_of(group: u32, rows: u32) -> u32 { return rows / WORKGROUPS + select(0u, 1u, group < rows % WORKGROUPS); }

// Where the row of B, C and dt is among the numbers.
fn all_at(row: u32) -> u32 {
  let few = ALL / WORKGROUPS;
  let more = ALL % WORKGROUPS * (few + 1u);
  if (row < more) { return row / (few + 1u) * ALL_STRIDE + row % (few + 1u); }
  return (ALL % WORKGROUPS + (row - more) / few) * ALL_STRIDE + (row - more) % few;
}

// An eight of a row that all need; behind the last there is nothing to load.
fn all_eight(block: u32, j: u32, at: Place) -> Stored {
  if (j >= count_of(at.group, ALL)) { return Stored(); }
  return in_stored(block, (2u * INNER + first_of(at.group, ALL) + j) * WIDTH + at.lane);
}

fn all_quad(block: u32, q: u32, at: Place) -> Quad {
  let j = at.team + 4u * q * TEAMS;
  return Quad(
    all_eight(block, j, at),
    all_eight(block, j + TEAMS, at),
    all_eight(block, j + 2u * TEAMS, at),
    all_eight(block, j + 3u * TEAMS, at),
  );
}

// z and x of two channels.
fn own_quad(block: u32, q: u32, at: Place) -> Quad {
  let c = 2u * (at.team + q * TEAMS);
  let channel = at.group * OWN + c;
  if (c >= OWN || channel >= INNER) { return Quad(); }
  let i = channel * WIDTH + at.lane;
  // An odd number of channels ends with one that is not there; what it gives is not used.
  return Quad(
    in_stored(block, i),
    in_stored(block, i + WIDTH),
    in_stored(block, i + INNER * WIDTH),
    in_stored(block, i + (INNER + 1u) * WIDTH),
  );
}

fn out_eight(j: u32, half: u32, at: Place) -> Stored {
  if (j >= count_of(at.group, DIM)) { return Stored(); }
  return out_stored((first_of(at.group, DIM) + j) * 2u * WIDTH + half * WIDTH + at.lane);
}

fn out_quad(q: u32, at: Place) -> Quad {
  let j = at.team + 2u * q * TEAMS;
  return Quad(out_eight(j, 0u, at), out_eight(j, 1u, at), out_eight(j + TEAMS, 0u, at), out_eight(j + TEAMS, 1u, at));
}

// The quads of the block in the order in which they are needed, and then what is behind it.
fn quad(i: u32, at: Place) -> Quad {
  if (i >= END) { return behind(i - END, at); }
  if (i < IN_END) { return in_quad(nth, i, at); }
  return out_quad(i - IN_END, at);
}

fn in_quad(block: u32, i: u32, at: Place) -> Quad {
  if (i < ALL_QUADS) { return all_quad(block, i, at); }
  return own_quad(block, i - ALL_QUADS, at);
}

// A row is a multiple of 32 eights, so which of two scales is that of an eight follows from the lane.
fn four_rows(lane: u32, q: Quad, lo: vec4<f32>, hi: vec4<f32>) -> vec4<f32> {
  return vec4(dot8(q.a, lane, lo, hi), dot8(q.b, lane, lo, hi), dot8(q.c, lane, lo, hi), dot8(q.d, lane, lo, hi));
}

fn two_rows(lane: u32, q: Quad, y0: vec4<f32>, y1: vec4<f32>, y2: vec4<f32>, y3: vec4<f32>) -> vec4<f32> {
  let a = dot8(q.a, lane, y0, y1) + dot8(q.b, lane, y2, y3);
  return vec4(a, dot8(q.c, lane, y0, y1) + dot8(q.d, lane, y2, y3), 0.0, 0.0);
}

// Sums over the lanes of a subgroup: lanes 4i … 4i + 3 get those of x, y, z and w.
fn subgroup_sums(v: vec4<f32>, lane: u32) -> f32 {
  let odd = (lane & 1u) != 0u;
  let two = select(v.xz, v.yw, odd) + subgroupShuffleXor(select(v.yw, v.xz, odd), 1u);
  let high = (lane & 2u) != 0u;
  var sum = select(two.x, two.y, high) + subgroupShuffleXor(select(two.y, two.x, high), 2u);
  for (var i = 4u; i < SUBGROUP; i *= 2u) { sum += subgroupShuffleXor(sum, i); }
  return sum;
}

// Keeps the subgroups' sums of four numbers.
fn keep(thread: u32, first: u32, v: vec4<f32>) {
  let sum = subgroup_sums(v, thread);
  if (thread % SUBGROUP < 4u) { partial[(first + thread % 4u) * SUBGROUPS + thread / SUBGROUP] = sum; }
}

// What a team has of a sum.
fn total(team: u32, at: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < PER_TEAM; i += 1u) { sum += partial[at * SUBGROUPS + team * PER_TEAM + i]; }
  return sum;
}

// Where the raw value of a channel is kept. CHANNELS are a multiple of eight.
fn raw_at(channel: u32, position: u32) -> u32 { return (nth * TAPS + position % TAPS) * CHANNELS + channel; }

fn parts_of(channel: u32, position: u32) -> Parts {
  let first = nth * CONV_STRIDE;
  let w = first + channel * TAPS;
  return Parts(
    conv[first + CHANNELS * TAPS + channel],
    vec4(conv[w], conv[w + 1u], conv[w + 2u], conv[w + 3u]),
    vec3(
      conv_state[raw_at(channel, position + 1u)],
      conv_state[raw_at(channel, position + 2u)],
      conv_state[raw_at(channel, position + 3u)],
    ),
  );
}

fn conv_of(p: Parts) -> Conv { return Conv(p.bias + dot(p.weight.xyz, p.raw), p.weight.w); }

// The channel of a convolution: of B and C, then the own ones.
fn channel_of(group: u32, i: u32) -> u32 { return select(row_of(group, i - BC), INNER + i, i < BC); }

// The convolution, and the raw value kept.
fn convolve(channel: u32, position: u32, c: Conv, raw: f32, owner: bool) -> f32 {
  if (owner) { conv_state[raw_at(channel, position)] = raw; }
  return silu(c.old + c.weight * raw);
}

// The channel, for those there are.
fn row_of(group: u32, own: u32) -> u32 { return min(group * OWN + min(own, OWN - 1u), INNER - 1u); }

// All of an own row of the state that is there before the token is.
fn block_of(group: u32, own: u32, n: u32) -> Block {
  let row = row_of(group, own);
  let head = nth * HEAD_STRIDE + row / HEAD_DIM;
  let at = (nth * INNER + row) * FOURS + n;
  return Block(ssm[at], ssm[at + LANES], per_head[head], -exp(per_head[HEADS + head]), per_head[2u * HEADS + head]);
}

// Asks for what the state needs; B, C and dt may be asked for later.
fn ask(at: Place, thread: u32, position: u32) -> Ahead {
  var ahead = Ahead();
  if (thread < CONVS) { ahead.parts = parts_of(channel_of(at.group, thread), position); }
  ahead.block = block_of(at.group, thread / LANES, thread % LANES);
  for (var i = thread + THREADS; i < CONVS; i += THREADS) { convs[i] = conv_of(parts_of(channel_of(at.group, i), position)); }
  return ahead;
}

fn ask_all(at: Place, thread: u32, ahead: Ahead) -> Ahead {
  var asked = ahead;
  if (thread < BC) { asked.bc = given(all_at(thread)); }
  asked.dt = given(dt_at(at.group, thread / LANES));
  return asked;
}

// Where dt of an own row is among the numbers.
fn dt_at(group: u32, own: u32) -> u32 { return all_at(BC + row_of(group, own) / HEAD_DIM); }

fn step_of(raw: f32, block: Block) -> Step {
  let dt = clamp(softplus(params.dt_scale * raw + block.bias), params.dt_min, params.dt_max);
  return Step(dt, exp(dt * block.rate), block.skip);
}

// Puts convolutions, B and C as they come out of theirs, and steps where all can read them.
fn take_all(at: Place, thread: u32, position: u32, ahead: Ahead) {
  workgroupBarrier(); // nobody waits for who waits for them to come here
  if (thread < CONVS) { convs[thread] = conv_of(ahead.parts); }
  if (thread < BC) { take_one(at, thread, position, ahead.bc); }
  for (var i = thread + THREADS; i < BC; i += THREADS) { take_one(at, i, position, given(all_at(i))); }
  let step = step_of(take(dt_at(at.group, thread / LANES), ahead.dt), ahead.block);
  if (thread % LANES == 0u) { steps[thread / LANES] = step; }
}

fn take_one(at: Place, i: u32, position: u32, found: u32) {
  let v = convolve(INNER + i, position, convs[i], take(all_at(i), found), at.group == 0u);
  if (i < BC / 2u) { bs[i / 4u][i % 4u] = v; } else { cs[(i - BC / 2u) / 4u][i % 4u] = v; }
}

// S ← decay·S + dt·x·B for four numbers; their part of S·C.
fn advance(row: u32, n: u32, s: vec4<f32>, step: Step, v: f32) -> f32 {
  let next = step.decay * s + step.dt * v * bs[n];
  ssm[(nth * INNER + row) * FOURS + n] = next;
  return dot(next, cs[n]);
}

// Comes back with x as the others have made it.
fn take_x(lane: u32) -> Eight {
  bit = rounds.x & 1u;
  var b0 = vec4(~bit);
  var b1 = b0;
  for (var tries = 1u; !(there(b0) && there(b1)) && patient(tries); tries += 1u) {
    b0 = four_given(X_GIVEN + 8u * lane);
    b1 = four_given(X_GIVEN + 8u * lane + 4u);
  }
  waited(there(b0) && there(b1));
  return Eight(numbers(b0), numbers(b1));
}

// Gives the rows of x that the workgroup has added to.
fn give_x(j: u32, group: u32, more: f32) {
  residual[j] += more;
  give(X_GIVEN + first_of(group, DIM) + j, residual[j]);
}

fn norm_of(lane: u32) -> Eight { return Eight(norm[2u * (WIDTH * nth + lane)], norm[2u * (WIDTH * nth + lane) + 1u]); }

fn squares(x: Eight) -> f32 { return dot(x.lo, x.lo) + dot(x.hi, x.hi); }

// From x and the weights of its norm to what the workgroup has of the next x.
fn through_block(at: Place, thread: u32, position: u32, x: Eight, weights: Eight, quads: ptr<function, array<Quad, 4>>) {
  let group = at.group;
  let team = at.team;
  let lane = at.lane;
  let n = thread % LANES;
  rounds.block += 1u;
  bit = rounds.block & 1u;

  // in_proj: what all need goes out at once.
  keep(thread, SQUARES, vec4(squares(x), 0.0, 0.0, 0.0));
  let lo = x.lo * weights.lo;
  let hi = x.hi * weights.hi;
  var in_scale = 0.0;
  var ahead = Ahead();
  for (var stage = 0u; stage < IN_END; stage += 1u) {
    var rows = vec4(0.0);
    if (stage < IN_QUADS) { rows = four_rows(lane, (*quads)[stage % SLOTS], lo, hi); }
    if (!LATE && stage == USED) { take_all(at, thread, position, ahead); }
    (*quads)[stage % SLOTS] = quad(stage + SLOTS, at);
    if (stage < IN_QUADS) { keep(thread, 4u * stage, rows); }
    if (stage + 1u == ALL_QUADS) {
      workgroupBarrier();
      in_scale = inverseSqrt(total(0u, SQUARES) / f32(DIM) + params.eps);
      for (var j = thread; j < count_of(group, ALL); j += THREADS) {
        give(group * ALL_STRIDE + j, in_scale * total(j % TEAMS, j / TEAMS));
      }
    }
    if (stage == ASKED) {
      ahead = ask(at, thread, position);
      if (!LATE) { ahead = ask_all(at, thread, ahead); }
    }
  }
  if (LATE) { take_all(at, thread, position, ask_all(at, thread, ahead)); }

  // The state.
  workgroupBarrier();
  for (var unit = 0u; unit < OWN; unit += UNIT) {
    let own = unit + thread / LANES;
    let row = group * OWN + own;
    let exists = own < OWN && row < INNER;
    var block = ahead.block;
    var step = steps[thread / LANES];
    if (unit > 0u) {
      block = block_of(group, own, n);
      step = step_of(take(dt_at(group, own), given(dt_at(group, own))), block);
    }
    var sum = 0.0;
    var v = 0.0;
    var gate = 0.0;
    if (exists) {
      let at = FIRST + 4u * (own / (2u * TEAMS)) + own % 2u;
      gate = silu(params.z_scale * in_scale * total(own / 2u % TEAMS, at));
      v = convolve(row, position, convs[BC + own], in_scale * total(own / 2u % TEAMS, at + 2u), n == 0u);
      sum = advance(row, n, block.s0, step, v) + advance(row, n + LANES, block.s1, step, v);
      for (var i = n + 2u * LANES; i < FOURS; i += LANES) {
        sum += advance(row, i, ssm[(nth * INNER + row) * FOURS + i], step, v);
      }
    }
    for (var i = LANES / 2u; i > 0u; i /= 2u) { sum += subgroupShuffleXor(sum, i); }
    if (exists && n == 0u) { give(Y_GIVEN + row, (sum + step.skip * v) * gate); }
  }
  workgroupBarrier(); // the sums of in_proj are no longer needed

  // out_proj.
  let g = 4u * WIDTH * nth + 2u * lane;
  let g0 = gated_norm[g];
  let g1 = gated_norm[g + 1u];
  let g2 = gated_norm[g + 2u * WIDTH];
  let g3 = gated_norm[g + 2u * WIDTH + 1u];
  var a0 = vec4(~bit);
  var a1 = a0;
  var a2 = a0;
  var a3 = a0;
  for (var tries = 1u; !(there(a0) && there(a1) && there(a2) && there(a3)) && patient(tries); tries += 1u) {
    a0 = four_given(Y_GIVEN + 8u * lane);
    a1 = four_given(Y_GIVEN + 8u * lane + 4u);
    a2 = four_given(Y_GIVEN + 8u * (lane + WIDTH));
    a3 = four_given(Y_GIVEN + 8u * (lane + WIDTH) + 4u);
  }
  waited(there(a0) && there(a1) && there(a2) && there(a3));
  var y0 = numbers(a0);
  var y1 = numbers(a1);
  var y2 = numbers(a2);
  var y3 = numbers(a3);
  keep(thread, SQUARES, vec4(dot(y0, y0) + dot(y1, y1) + dot(y2, y2) + dot(y3, y3), 0.0, 0.0, 0.0));
  y0 *= g0;
  y1 *= g1;
  y2 *= g2;
  y3 *= g3;
  for (var stage = 0u; stage < END - IN_END; stage += 1u) {
    var rows = vec4(0.0);
    if (stage < OUT_QUADS) { rows = two_rows(lane, (*quads)[stage % SLOTS], y0, y1, y2, y3); }
    (*quads)[stage % SLOTS] = quad(IN_END + stage + SLOTS, at);
    if (stage < OUT_QUADS) { keep(thread, 4u * stage, rows); }
  }
  workgroupBarrier();
  let scale = params.scale * inverseSqrt(total(0u, SQUARES) / f32(INNER) + params.gated_eps);
  rounds.x += 1u;
  bit = rounds.x & 1u;
  for (var j = thread; j < count_of(group, DIM); j += THREADS) {
    let k = j / TEAMS;
    give_x(j, group, scale * total(j % TEAMS, 4u * (k / 2u) + k % 2u));
  }
}

// What a workgroup begins with: its rows of x, and the first quads.
fn begin(at: Place, thread: u32, quads: ptr<function, array<Quad, 4>>) {
  let over = sync[0];
  rounds = Rounds(over.z, over.x, over.w, over.x + over.z + over.w);
  for (var j = thread; j < OUT_ROWS; j += THREADS) {
    let row = min(first_of(at.group, DIM) + j, DIM - 1u);
    residual[j] = x[row / 4u][row % 4u];
  }
  (*quads)[0] = quad(0u, at);
  (*quads)[1] = quad(1u, at);
  (*quads)[2] = quad(2u, at);
  if (SLOTS > 3u) { (*quads)[3] = quad(3u, at); }
}

// Where somebody has waited in vain x is no number.
fn end(at: Place, thread: u32) {
  let lost = sync[GAVE_UP / 4u][GAVE_UP % 4u] != 0u;
  for (var j = thread; j < count_of(at.group, DIM); j += THREADS) {
    let row = first_of(at.group, DIM) + j;
    x[row / 4u][row % 4u] = bitcast<f32>(bitcast<u32>(residual[j]) | select(0u, 0x7fc00000u, lost));
  }
  if (at.group == 0u && thread == 0u) {
    sync[0].x = rounds.layer;
    sync[0].z = rounds.block;
    sync[0].w = rounds.chosen;
  }
}
