// Workgroups that wait for each other. The body binds `sync`, words that are zero at first, and has WORKGROUPS and
// `params.patience`, rounds after which an invocation gives up, and waits no more.
const EPOCH = 0u;   // which of the two counters this dispatch uses
const COUNTER = 1u; // workgroups that have arrived; the other one is zero or of the dispatch before
const GAVE_UP = 3u; // invocations that did
const GIVEN = 4u;   // numbers, inverted: those that are zero are not there

var<private> gave_up: bool = false;

// Whether to go on waiting.
fn patient(tries: u32) -> bool {
  if (!gave_up && tries > params.patience) {
    gave_up = true;
    atomicAdd(&sync[GAVE_UP], 1u);
  }
  return !gave_up;
}

// Says that what this workgroup has stored is there.
fn arrive(thread: u32, epoch: u32) {
  storageBarrier();
  if (thread == 0u) { atomicAdd(&sync[COUNTER + epoch], 1u); }
}

// Comes back when all have arrived, or in vain.
fn wait(thread: u32, epoch: u32) {
  if (thread == 0u) {
    for (var tries = 1u; atomicLoad(&sync[COUNTER + epoch]) < WORKGROUPS && patient(tries); tries += 1u) {}
  }
  storageBarrier();
}

// The next dispatch uses the other counter. Once all have arrived nobody has yet to read which one this dispatch uses.
fn next_epoch(group: u32, thread: u32, epoch: u32) {
  if (group == 0u && thread == 0u) {
    atomicStore(&sync[COUNTER + 1u - epoch], 0u);
    atomicStore(&sync[EPOCH], 1u - epoch);
  }
}

// A number for all, which says itself that it is there: no fence, and nobody has to arrive.
fn give(k: u32, v: f32) {
  let bits = bitcast<u32>(v);
  atomicStore(&sync[GIVEN + k], select(~bits, 0x803fffffu, bits == 0xffffffffu)); // no number is as good as another
}

// Comes back with it, or in vain with no number.
fn take(k: u32) -> f32 {
  var bits = atomicLoad(&sync[GIVEN + k]);
  for (var tries = 1u; bits == 0u && patient(tries); tries += 1u) { bits = atomicLoad(&sync[GIVEN + k]); }
  return bitcast<f32>(~bits);
}

// Nobody needs it any more.
fn take_back(k: u32) { atomicStore(&sync[GIVEN + k], 0u); }
