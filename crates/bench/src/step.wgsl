// Cost of a dispatch: one word is counted up, so that every dispatch waits for the one before it, as in a model.
struct Params { unused: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read_write> data: array<u32>; // (1)

@compute @workgroup_size(1)
fn main() { data[0] += 1u + params.unused; }
