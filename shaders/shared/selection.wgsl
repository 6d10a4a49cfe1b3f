// What a selective attention layer decided about the tokens of a segment (capacity T tokens):
// [count, 7 unused, T alphas (f32 bits), T masks (0 or 1), T indices of the selected tokens in order].
const COUNT = 0u;
const HEADER = 8u;

fn alpha_at(t: u32) -> u32 { return HEADER + t; }
fn mask_at(t: u32, capacity: u32) -> u32 { return HEADER + capacity + t; }
fn index_at(r: u32, capacity: u32) -> u32 { return HEADER + 2u * capacity + r; }
