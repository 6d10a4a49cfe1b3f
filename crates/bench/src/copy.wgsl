// Copy bandwidth: every invocation moves 16 bytes, `count` of them in all.
struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<vec4<u32>>;       // (count)
@group(1) @binding(1) var<storage, read_write> target_: array<vec4<u32>>; // (count)

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 256u + id.x;
  if (i < params.count) { target_[i] = source[i]; }
}
