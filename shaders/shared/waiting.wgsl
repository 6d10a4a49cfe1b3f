// Workgroups that wait for each other. The body binds `sync`, words that are zero at first, and has WORKGROUPS and
// `params.patience`, rounds after which a workgroup gives up.
const GAVE_UP = 2u; // word of `sync`: workgroups that did

// Says that what this workgroup has stored is there.
fn arrive(lane: u32, at: u32) {
  storageBarrier();
  if (lane == 0u) { atomicAdd(&sync[at], 1u); }
}

// Comes back when WORKGROUPS have arrived, or in vain.
fn wait(lane: u32, at: u32) {
  if (lane == 0u) {
    var tries = 0u;
    while (atomicLoad(&sync[at]) < WORKGROUPS) {
      tries += 1u;
      if (tries > params.patience) {
        atomicAdd(&sync[GAVE_UP], 1u);
        break;
      }
    }
  }
  storageBarrier();
}
