//! The hard bound: of any L consecutive tokens at most C·L + burst are selected, by the same rule everywhere.

use pollster::block_on;
use proptest::prelude::*;
use taipan::{AttentionBound, Device, LoadOptions, Model, Session, SessionOptions};
use taipan_tests::device;
use taipan_tests::drive::prefill_logits;
use taipan_tests::tiny::{Gate, Tiny, ids};

use super::{Subject, selected};

fn session(model: &Model, bound: AttentionBound) -> Session {
    model.session(SessionOptions { attention_bound: Some(bound), ..SessionOptions::default() }).unwrap()
}

/// Masks and counters by prefill.
fn prefilled(model: &Model, bound: AttentionBound, prompt: &[u32]) -> (Vec<Vec<u8>>, Vec<(u64, u64)>) {
    let mut session = session(model, bound);
    let _ = prefill_logits(&mut session, prompt);
    (session.gates().mask.clone(), counters(&mut session))
}

fn counters(session: &mut Session) -> Vec<(u64, u64)> {
    block_on(session.stats()).unwrap().sal.iter().map(|s| (s.selected, s.refused)).collect()
}

/// Masks and counters by decode: what a token adds to the counters.
fn decoded(model: &Model, bound: AttentionBound, prompt: &[u32]) -> (Vec<Vec<u8>>, Vec<(u64, u64)>) {
    let mut session = session(model, bound);
    let mut before = selected(&mut session);
    let mut masks = vec![Vec::new(); before.len()];
    for id in prompt {
        block_on(session.decode(*id)).unwrap();
        let after = selected(&mut session);
        for (mask, (after, before)) in masks.iter_mut().zip(after.iter().zip(&before)) {
            mask.push((after - before) as u8);
        }
        before = after;
    }
    (masks, counters(&mut session))
}

/// Checks every stretch of a mask.
fn assert_bounded(what: &str, mask: &[u8], c: f64, burst: f64) {
    for from in 0..mask.len() {
        let mut count = 0.0;
        for (length, m) in (1..).zip(&mask[from..]) {
            count += f64::from(*m);
            assert!(count <= c * f64::from(length) + burst, "{what}: {count} of the {length} tokens from {from}");
        }
    }
}

#[test]
fn one_rule_for_every_phase_and_device() {
    for (gate, c, burst) in [
        (Gate::Always, 0.15, 2.0),
        (Gate::Always, 0.5, 3.7),
        (Gate::Mixed, 0.2, 2.0),
        (Gate::Always, 1.0 / 65_536.0, 2.0),
        (Gate::Always, 1.0, 2.0),
        (Gate::Never, 0.1, 2.0),
    ] {
        let what = format!("{gate:?}, C {c}, burst {burst}");
        let bound = AttentionBound::new(c, burst).unwrap();
        let tiny = Tiny::new("sms").gate(gate).seed(40);
        // A bound changes what later layers see, so the seed is chosen with it.
        let subject = Subject::new(&tiny, 60, LoadOptions::default);
        let (prompt, tiny) = (&subject.prompt, &subject.tiny);
        let expected = prefilled(&subject.cpu, bound, prompt);
        for mask in &expected.0 {
            assert_bounded(&what, mask, c, burst);
        }
        assert_eq!(decoded(&subject.cpu, bound, prompt), expected, "{what}: decode on the CPU");
        for device in [Device::cpu(), device::gpu()] {
            for segment in [None, Some(1), Some(13)] {
                let options = LoadOptions { segment, ..LoadOptions::default() };
                let model = tiny.open_with(&device, options);
                let what = format!("{what}: segments {segment:?} on {}", device.description());
                assert_eq!(prefilled(&model, bound, prompt), expected, "{what}");
            }
        }
        assert_eq!(decoded(&tiny.open(&device::gpu()), bound, prompt), expected, "{what}: decode on the GPU");
    }
}

#[test]
fn refused_tokens_are_counted_and_selected_ones_are_the_rest() {
    let prompt = ids(60, 48, 2);
    let bound = AttentionBound::new(0.1, 2.0).unwrap();
    for device in [Device::cpu(), device::gpu(), device::base_tier()] {
        let model = Tiny::new("sm").gate(Gate::Always).open(&device);
        // 2 of the burst and a tenth of 60; everything else is refused.
        let (_, counts) = prefilled(&model, bound, &prompt);
        assert_eq!(counts, [(7, 53)], "{}", device.description());
        let mut free = model.session(SessionOptions::default()).unwrap();
        block_on(free.prefill(&prompt)).unwrap();
        assert_eq!(counters(&mut free), [(60, 0)], "{}: without a bound", device.description());
    }
}

#[test]
fn a_generous_bound_changes_nothing() {
    let subject = Subject::new(&Tiny::new("msms"), 60, LoadOptions::default);
    let mut bounded = session(&subject.cpu, AttentionBound::new(1.0, 16.0).unwrap());
    assert_eq!(prefill_logits(&mut bounded, &subject.prompt), subject.logits);
}

#[test]
fn generated_tokens_are_bounded_too() {
    let bound = AttentionBound::new(0.25, 2.0).unwrap();
    for device in [Device::cpu(), device::gpu()] {
        let model = Tiny::new("ms").gate(Gate::Always).open(&device);
        let mut session = session(&model, bound);
        block_on(session.prefill(&ids(20, 48, 1))).unwrap();
        let options = taipan_tests::drive::endless(taipan_tests::drive::greedy());
        let _ = taipan_tests::drive::take(&mut session, &options, 21);
        // 2 of the burst and a quarter of the 41 tokens that went through the layers, less what was full at the start.
        assert_eq!(counters(&mut session), [(12, 29)], "{}", device.description());
    }
}

thread_local! {
    static MODELS: [Model; 2] = [Gate::Mixed, Gate::Always].map(|g| Tiny::new("sms").gate(g).open(&Device::cpu()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_stretch_of_tokens_exceeds_any_bound(
        c in 0.0001f64..1.0, burst in 2.0f64..12.0, seed in 0u64..1000, always in any::<bool>(), cut in 1usize..79,
    ) {
        let models = MODELS.with(Clone::clone);
        let model = &models[usize::from(always)];
        let bound = AttentionBound::new(c, burst).unwrap();
        let prompt = ids(80, 48, seed);
        let whole = prefilled(model, bound, &prompt);
        for mask in &whole.0 {
            assert_bounded("prefill", mask, c, burst);
        }
        let mut parts = session(model, bound);
        let _ = prefill_logits(&mut parts, &prompt[..cut]);
        let first = parts.gates().mask.clone();
        let _ = prefill_logits(&mut parts, &prompt[cut..]);
        if always {
            let joined: Vec<Vec<u8>> = first.iter().zip(&parts.gates().mask).map(|(a, b)| [&a[..], b].concat()).collect();
            prop_assert_eq!((joined, counters(&mut parts)), whole);
        }
    }
}
