// Lanes meet in workgroup memory only. `lanes_subgroup.wgsl` is this part for devices with subgroups.
const SUBGROUP = 0u;

// These are not called where SUBGROUP is 0.
fn subgroup_sum(value: vec4<f32>, lanes: u32) -> vec4<f32> { return value; }
fn subgroup_sum_by(value: vec4<f32>, lanes: u32, heads: u32) -> vec4<f32> { return value; }
