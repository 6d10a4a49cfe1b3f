// The token bucket of a selective attention layer (spec §1.3), in u32 so that every backend agrees to the bit.
const CREDIT = 0u;
const SELECTED = 1u;
const REFUSED = 2u;
const RATE = 3u;  // credit a token earns, in 1/65536; 0 switches the bound off
const BURST = 4u; // most credit that can be saved up
const WHOLE = 65536u;

struct Bucket { credit: u32, selected: u32, refused: u32, rate: u32, burst: u32 }

// Lets one token ask; returns 1 where it is selected.
fn admit(bucket: ptr<function, Bucket>, wants: u32) -> u32 {
  var granted = wants;
  if ((*bucket).rate != 0u) {
    (*bucket).credit = min((*bucket).burst, (*bucket).credit + (*bucket).rate);
    granted = select(0u, wants, (*bucket).credit >= WHOLE);
    (*bucket).credit -= granted * WHOLE;
  }
  (*bucket).selected += granted;
  (*bucket).refused += wants - granted;
  return granted;
}
