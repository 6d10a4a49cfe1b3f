// Weight prelude, f32 storage: rows padded with zeros to a multiple of 8 elements.
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;

alias Stored = Eight;

// Elements 8·i … 8·i + 7 of the stored matrix, as they are stored.
fn stored8(i: u32) -> Stored {
  return Eight(weight[2u * i], weight[2u * i + 1u]);
}

fn unpack8(p: Stored, i: u32) -> Eight { return p; }
