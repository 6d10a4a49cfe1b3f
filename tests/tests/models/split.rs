//! A matrix over the binding limit lies in several buffers.

use taipan::Device;
use taipan_tests::compare::assert_close;
use taipan_tests::device;
use taipan_tests::drive::decode_logits;
use taipan_tests::tiny::Tiny;

use super::{DEVICES, run};

#[test]
fn an_embedding_over_the_binding_limit_is_split_by_rows() {
    // 2^25 floats are the 128 MiB of the base tier: the rows beyond lie in a second buffer, both as embedding and head.
    let vocab = (1 << 20) + 1000;
    let tiny = Tiny::new("m").with("vocab_size", vocab);
    let prompt = [vocab as u32 - 1, (1 << 20) - 1];
    let (expected, _) = run(&tiny.open(&Device::cpu()), &prompt);
    let gpu = tiny.open(&device::base_tier());
    let (logits, _) = run(&gpu, &prompt);
    assert_close("prefill", &logits, &expected, DEVICES);
    let mut session = gpu.session(taipan::SessionOptions::default()).unwrap();
    assert_close("decode", &decode_logits(&mut session, &prompt), &expected, DEVICES);
}
