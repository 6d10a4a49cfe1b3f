// SUBGROUP, the fewest lanes of a subgroup, stands in front of this: a power of two, at least 4.

// The sum over `lanes` consecutive lanes, a power of two from 4 to SUBGROUP; what the first of them gets is right. Fours, then
// one four after another, which is how sums go through workgroup memory: the results are the same to the bit.
fn subgroup_sum(value: vec4<f32>, lanes: u32) -> vec4<f32> {
  let four = value + (quadBroadcast(value, 1u) + quadBroadcast(value, 2u) + quadBroadcast(value, 3u));
  var sum = four;
  for (var i = 4u; i < lanes; i += 4u) { sum += subgroupShuffleDown(four, i); }
  return sum;
}

// The same in another order: `heads` lanes first sum every heads'th number, then the first of them sums theirs.
fn subgroup_sum_by(value: vec4<f32>, lanes: u32, heads: u32) -> vec4<f32> {
  var head = value;
  for (var i = heads; i < lanes; i += heads) { head += subgroupShuffleDown(value, i); }
  var sum = head;
  for (var i = 1u; i < heads; i += 1u) { sum += subgroupShuffleDown(head, i); }
  return sum;
}
