// Workgroups that wait for each other. The body binds `sync`, words that are zero at first, and has WORKGROUPS and
// `params.patience`, rounds after which an invocation gives up, and waits no more.
const BEFORE = 0u;  // what the counter was at when this dispatch began
const COUNTER = 1u; // workgroups that have arrived, as often as they have
const GAVE_UP = 2u; // invocations that did
const GIVEN = 3u;   // numbers, inverted: those that are zero are not there

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
fn arrive(thread: u32) {
  storageBarrier();
  if (thread == 0u) { atomicAdd(&sync[COUNTER], 1u); }
}

// Comes back when all have arrived so often since the counter was at `before`, or in vain.
fn wait(thread: u32, before: u32, times: u32) {
  if (thread == 0u) {
    for (var tries = 1u; atomicLoad(&sync[COUNTER]) - before < times * WORKGROUPS && patient(tries); tries += 1u) {}
  }
  storageBarrier();
  workgroupBarrier(); // of workgroup memory a storage barrier says nothing
}

// For the next dispatch. Once all have arrived nobody has yet to read where this one began.
fn leave(group: u32, thread: u32, before: u32, times: u32) {
  if (group == 0u && thread == 0u) { atomicStore(&sync[BEFORE], before + times * WORKGROUPS); }
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
