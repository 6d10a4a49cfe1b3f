// Workgroups that wait for each other's numbers. The body binds `sync`, words that are zero at first, and has WORKGROUPS, THREADS
// and `params.patience`, rounds after which an invocation gives up, and waits no more.
//
// A number says itself that it is there: the last of its bits is that of the round. So no fence is needed, nobody counts, and
// what was asked for before may still be on its way. A place is written once in every round, by the same workgroup, and not
// before its writer has what all the others made of the number before.
const GAVE_UP = 1u; // not zero: an invocation did
const GIVEN = 4u;   // numbers; what is before them but for GAVE_UP is the body's

var<private> gave_up: bool = false;
var<private> bit: u32 = 0u; // of this round

// Whether to go on waiting.
fn patient(tries: u32) -> bool { return !gave_up && tries <= params.patience; }

// What becomes of it: some implementations end a loop before patience does.
fn waited(found: bool) {
  if (found || gave_up) { return; }
  gave_up = true;
  sync[GAVE_UP / 4u][GAVE_UP % 4u] = 1u;
}

fn give(k: u32, v: f32) { sync[(GIVEN + k) / 4u][k % 4u] = (bitcast<u32>(v) & ~1u) | bit; }

fn given(k: u32) -> u32 { return sync[(GIVEN + k) / 4u][k % 4u]; }

fn four_given(k: u32) -> vec4<u32> { return sync[(GIVEN + k) / 4u]; }

fn there(bits: vec4<u32>) -> bool { return all((bits & vec4(1u)) == vec4(bit)); }

// Numbers, or none if nobody gave them.
fn numbers(bits: vec4<u32>) -> vec4<f32> { return bitcast<vec4<f32>>(bits | vec4(select(0u, 0x7fc00000u, gave_up))); }

// Comes back with a number, or in vain; what was found when it was first looked for.
fn take(k: u32, found: u32) -> f32 {
  var bits = found;
  for (var tries = 1u; (bits & 1u) != bit && patient(tries); tries += 1u) { bits = given(k); }
  waited((bits & 1u) == bit);
  return numbers(vec4(bits)).x;
}

// Comes back when all workgroups have begun, or in vain.
fn meet(thread: u32, group: u32) {
  bit = 1u;
  if (thread == 0u) { give(group, 0.0); }
  for (var k = thread; k < WORKGROUPS; k += THREADS) { let begun = take(k, 0u); }
  workgroupBarrier(); // else some invocations end, and their registers are free for the next workgroup
}
