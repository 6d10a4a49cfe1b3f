// Weight prelude, f16 packed two to a u32 (no shader-f16 needed): rows padded with zeros to a multiple of 8 elements.
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

alias Stored = vec4<u32>;
alias Word = vec4<u32>;
const WORD_BYTES = 16u;

// Elements 8·i … 8·i + 7 of the stored matrix, as they are stored.
fn stored8(i: u32) -> Stored { return weight[i]; }

// The same of any matrix, from its words.
fn stored_of(eight: Word, scales: Word, i: u32) -> Stored { return eight; }
fn scales_at(eights: u32, i: u32) -> u32 { return 0u; }

fn unpack8(p: Stored, i: u32) -> Eight {
  return Eight(
    vec4(unpack2x16float(p.x), unpack2x16float(p.y)),
    vec4(unpack2x16float(p.z), unpack2x16float(p.w)),
  );
}
