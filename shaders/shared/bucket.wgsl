// The token bucket of a selective attention layer (spec §1.3), in u32 so that every backend agrees to the bit.
const CREDIT = 0u;
const SELECTED = 1u;
const REFUSED = 2u;
const RATE = 3u;  // credit a token earns, in 1/65536; 0 switches the bound off
const BURST = 4u; // most credit that can be saved up
const WHOLE = 65536u;

struct Bucket { credit: u32, selected: u32, refused: u32, rate: u32, burst: u32 }

// Lets consecutive tokens ask, at most 32: bits of `wishes`, the first the lowest. Returns the bits of those that are
// selected. What the tokens between two wishes earn is added up at once: a credit at its most stays there.
fn admit(bucket: ptr<function, Bucket>, wishes: u32, tokens: u32) -> u32 {
  var granted = wishes;
  if ((*bucket).rate != 0u) {
    var credit = (*bucket).credit;
    var asked = 0u; // tokens that have had their turn
    for (var left = wishes; left != 0u; left &= left - 1u) {
      let turn = countTrailingZeros(left) + 1u;
      credit = min((*bucket).burst, credit + (turn - asked) * (*bucket).rate);
      asked = turn;
      if (credit >= WHOLE) { credit -= WHOLE; } else { granted &= ~(1u << (turn - 1u)); }
    }
    (*bucket).credit = min((*bucket).burst, credit + (tokens - asked) * (*bucket).rate);
  }
  (*bucket).selected += countOneBits(granted);
  (*bucket).refused += countOneBits(wishes) - countOneBits(granted);
  return granted;
}
