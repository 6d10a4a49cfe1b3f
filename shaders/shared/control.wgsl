// The session's counters; `embed` advances CONSUMED by TOKENS, everything after it reads.
const CONSUMED = 0u; // tokens consumed, the current segment included
const TOKENS = 1u;   // tokens of the current segment

// Position of the segment's first token in the text.
fn first_position() -> u32 {
  return control[CONSUMED] - control[TOKENS];
}
