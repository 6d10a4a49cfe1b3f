// Sixteen steps of a body's `multiply`, one after the other: a loop over them takes an NVIDIA GPU a third longer.
fn multiply_all(local: vec3<u32>) {
  multiply(0u, local);
  multiply(1u, local);
  multiply(2u, local);
  multiply(3u, local);
  multiply(4u, local);
  multiply(5u, local);
  multiply(6u, local);
  multiply(7u, local);
  multiply(8u, local);
  multiply(9u, local);
  multiply(10u, local);
  multiply(11u, local);
  multiply(12u, local);
  multiply(13u, local);
  multiply(14u, local);
  multiply(15u, local);
}
