// Weight prelude, f16 packed two to a u32 (no shader-f16 needed): rows padded with zeros to a multiple of 8 elements.
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

alias Stored = vec4<u32>;

// Elements 8·i … 8·i + 7 of the stored matrix, as they are stored.
fn stored8(i: u32) -> Stored { return weight[i]; }

fn unpack8(p: Stored) -> Eight {
  return Eight(
    vec4(unpack2x16float(p.x), unpack2x16float(p.y)),
    vec4(unpack2x16float(p.z), unpack2x16float(p.w)),
  );
}
