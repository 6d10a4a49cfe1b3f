//! Storage types: whatever a checkpoint stores and `--dtype` asks for, every device computes with the same rounded weights.

use pollster::block_on;
use taipan::{Device, Dtype, LoadOptions, SessionOptions, WeightDtype};
use taipan_tests::compare::{assert_close, worst};
use taipan_tests::device;
use taipan_tests::drive::decode_logits;
use taipan_tests::tiny::Tiny;

use super::{DEVICES, Subject, run};

const ASKED: [WeightDtype; 6] =
    [WeightDtype::Auto, WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4];

fn tiny(stored: Dtype) -> Tiny {
    // 39 columns: rows of 16-bit weights that end inside a word, and inside eight; two groups of integers.
    Tiny::new("ms").with("hidden_size", 39).with("mamba2.head_dim", 13).with("vocab_size", 51).dtype(stored)
}

fn options(dtype: WeightDtype) -> LoadOptions {
    LoadOptions { dtype, ..LoadOptions::default() }
}

#[test]
fn every_stored_type_as_every_asked_type() {
    for stored in Dtype::ALL {
        for asked in ASKED {
            let what = format!("{stored:?} as {asked:?}");
            let subject = Subject::new(&tiny(stored), 30, || options(asked));
            let gpu = subject.tiny.open_with(&device::gpu(), options(asked));
            let (logits, gates) = run(&gpu, &subject.prompt);
            assert_eq!(gates.mask, subject.gates.mask, "{what}");
            assert_close(&what, &logits, &subject.logits, DEVICES);
            let mut session = gpu.session(SessionOptions::default()).unwrap();
            let decoded = decode_logits(&mut session, &subject.prompt);
            assert_close(&format!("{what}: decode"), &decoded, &subject.logits, DEVICES);
        }
    }
}

#[test]
fn sixteen_bits_are_half_the_weights_and_round_them() {
    let bytes = |device: &Device, stored, asked| {
        let model = tiny(stored).open_with(device, options(asked));
        block_on(model.session(SessionOptions::default()).unwrap().stats()).unwrap().bytes.weights
    };
    let gpu = device::gpu();
    let full = bytes(&gpu, Dtype::F32, WeightDtype::Auto);
    for (stored, asked) in [
        (Dtype::F32, WeightDtype::F16),
        (Dtype::F32, WeightDtype::Bf16),
        (Dtype::F16, WeightDtype::Auto),
        (Dtype::BF16, WeightDtype::Auto),
    ] {
        let packed = bytes(&gpu, stored, asked);
        assert!(packed * 10 < full * 6, "{stored:?} as {asked:?}: {packed} of {full} bytes");
    }
    assert_eq!(bytes(&gpu, Dtype::BF16, WeightDtype::F32), full);
    // The comparison above means nothing if rounding did not show.
    let exact = Subject::new(&tiny(Dtype::F32), 30, LoadOptions::default);
    for asked in [WeightDtype::F16, WeightDtype::Bf16, WeightDtype::Q8] {
        let (logits, _) = run(&exact.tiny.open_with(&Device::cpu(), options(asked)), &exact.prompt);
        let (error, _) = worst(&logits, &exact.logits);
        assert!((1e-5..0.5).contains(&error), "{asked:?} moves logits by {error}");
    }
}

#[test]
fn what_sixteen_bits_hold_is_the_same_when_asked_for_more() {
    for stored in [Dtype::F16, Dtype::BF16] {
        let subject = Subject::new(&tiny(stored), 30, LoadOptions::default);
        let (logits, _) = run(&subject.tiny.open_with(&Device::cpu(), options(WeightDtype::F32)), &subject.prompt);
        assert_eq!(logits, subject.logits, "{stored:?}");
    }
}
