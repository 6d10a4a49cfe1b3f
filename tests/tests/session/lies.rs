//! Saved states with a valid checksum that say impossible things. A checksum is no signature: nothing in them may make a
//! session panic, then or later.

use pollster::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};
use taipan::SavedStateProblem as P;
use taipan::{AttentionBound, Device, Error, Model, SessionOptions};
use taipan_tests::drive::{endless, greedy, random, restored, save};
use taipan_tests::saved::{CHECKSUM, edit_header, header, reseal, set_word, tensor, tensors_at, with_header};
use taipan_tests::tiny::Gate;

use super::damaged::{Victim, state};
use super::{devices, talker};

/// Whether a header with one value replaced is refused, and as what.
#[test]
fn impossible_values_are_named() {
    let vocab = talker().parsed().vocab_size;
    let lies: Vec<(&str, Value)> = vec![
        ("/pending", json!(vocab)),
        ("/pending", json!(u32::MAX)),
        ("/text/ids", json!([0, vocab])),
        ("/text/shown", json!(1)),
        ("/text/shown", json!(u64::MAX)),
        ("/consumed", json!(0)),
        ("/tensors/0/rows", json!(2)),
        ("/tensors/0/cols", json!(0)),
        ("/tensors/1/cols", json!(u64::MAX)),
        ("/tensors/2/rows", json!(1u64 << 62)),
        ("/tensors/0/name", json!("recent\u{0}")),
        ("/tensors", json!([])),
        ("/bound", json!([0, 1 << 17])),
        ("/bound", json!([65_537, 1 << 17])),
        ("/bound", json!([9830, (1 << 17) - 1])),
        ("/bound", json!([9830, (32_767u32 << 16) + 1])),
        ("/bound", json!([u32::MAX, u32::MAX])),
    ];
    for (name, device) in devices() {
        let model = talker().open(&device);
        let bytes = state(&model);
        let mut victim = Victim::new(&model);
        for (pointer, value) in &lies {
            let lying = edit_header(&bytes, |h| *h.pointer_mut(pointer).unwrap() = value.clone());
            let problem = victim.refuse(&lying);
            assert!(matches!(problem, P::Shape { .. }), "{name}, {pointer} = {value}: {problem}");
        }
        victim.check();
    }
}

#[test]
fn values_of_a_wrong_type_and_missing_ones_are_refused() {
    let model = talker().open(&Device::cpu());
    let bytes = state(&model);
    let mut victim = Victim::new(&model);
    for pointer in ["/fingerprint", "/consumed", "/bound", "/text", "/text/held", "/text/bytes", "/tensors/1/rows"] {
        for value in [json!(-1), json!(0.5), json!(1e300), json!({}), json!([[[]]]), json!(true), json!("x")] {
            // The one lie that has the right type.
            if matches!(pointer, "/fingerprint" | "/text/held") && value.is_string() {
                continue;
            }
            let lying = edit_header(&bytes, |h| *h.pointer_mut(pointer).unwrap() = value.clone());
            let problem = victim.refuse(&lying);
            assert_eq!(problem, P::NotAState, "{pointer} = {value}");
        }
    }
    for key in ["fingerprint", "consumed", "text", "tensors"] {
        let lying = edit_header(&bytes, |h| drop(h.as_object_mut().unwrap().remove(key)));
        assert_eq!(victim.refuse(&lying), P::NotAState, "without {key}");
    }
    for text in [&b""[..], b"null", b"[]", b"{", b"\xff\xfe", &[b'['; 100_000]] {
        assert_eq!(victim.refuse(&with_header(&bytes, text)), P::NotAState);
    }
    victim.check();
}

/// A model whose gate always wants attention, with a bound: the bucket's words matter at every token.
fn bounded(device: &Device) -> (Model, Vec<u8>) {
    let model = talker().gate(Gate::Always).open(device);
    let bound = AttentionBound::new(0.25, 4.0).unwrap();
    let mut session =
        model.session(SessionOptions { attention_bound: Some(bound), ..SessionOptions::default() }).unwrap();
    block_on(session.prefill(&[1, 2, 3])).unwrap();
    (model, save(&mut session).0)
}

#[test]
fn a_bucket_that_contradicts_the_bound_is_refused() {
    for (name, device) in devices() {
        let (model, bytes) = bounded(&device);
        let at = tensor(&bytes, "layers.1.sal").start;
        let mut victim = Victim::new(&model);
        // Words of the layer: credit, selected, refused, rate, burst.
        for (word, value) in [(0, (4 << 16) + 1), (0, u32::MAX), (3, 0), (3, u32::MAX), (4, 0), (4, u32::MAX)] {
            let mut lying = bytes.clone();
            set_word(&mut lying, at + 4 * word, value);
            let problem = victim.refuse(&reseal(lying));
            assert!(matches!(problem, P::Shape { .. }), "{name}, word {word} = {value}: {problem}");
        }
        let unbound = edit_header(&bytes, |h| h["bound"] = Value::Null);
        assert!(matches!(victim.refuse(&unbound), P::Shape { .. }), "{name}");
        victim.check();
    }
}

#[test]
fn a_text_at_the_end_of_all_positions_says_so() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let bytes = state(&model);
        for left in [0, 1, 2, 5] {
            let old = edit_header(&bytes, |h| {
                h["consumed"] = json!(u32::MAX - left);
                h["pending"] = Value::Null;
                h["text"]["bytes"] = json!([]);
            });
            let mut session = restored(&model, &old);
            for _ in 0..left {
                block_on(session.decode(1)).unwrap();
            }
            let before = save(&mut session);
            assert_eq!(header(&before)["consumed"], u32::MAX, "{name}");
            for error in [
                block_on(session.decode(1)).unwrap_err(),
                block_on(session.prefill(&[1])).unwrap_err(),
                block_on(session.prefill_rows(&[1], |_| Ok(()))).unwrap_err(),
            ] {
                assert!(matches!(error, Error::Unsupported { .. }), "{name}: {error}");
            }
            assert_eq!(save(&mut session), before, "{name}");
            let mut segment = restored(&model, &old);
            let fits = block_on(segment.prefill(&vec![1; left as usize + 1]));
            assert!(matches!(fits, Err(Error::Unsupported { .. })), "{name}");
        }
    }
}

/// Restores something that may be accepted, and uses the session.
fn use_if_accepted(model: &Model, bytes: &[u8]) {
    use futures::StreamExt;
    let mut victim = Victim::new(model);
    let mut session = model.session(SessionOptions::default()).unwrap();
    if block_on(session.restore(bytes)).is_err() {
        victim.refuse(bytes);
        return victim.check();
    }
    for sampling in [greedy(), random(1)] {
        // Errors are fine, as at the end of all positions; a panic is not.
        let _: Vec<_> = block_on(session.generate(endless(sampling)).take(3).collect());
    }
    let _ = session.finish_text();
    let _ = block_on(session.prefill(&[1, 2, 3]));
    let _ = block_on(session.decode(1));
    let _ = block_on(session.prefill_rows(&[1, 2], |_| Ok(())));
    let saved = save(&mut session);
    block_on(session.restore(&saved)).expect("what a session saves, a session takes");
}

thread_local! {
    static BOUNDED: (Model, Vec<u8>) = bounded(&Device::cpu());
}

/// Leaves of a header, by their pointers.
fn leaves(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| leaves(v, &format!("{at}/{k}"), out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| leaves(v, &format!("{at}/{i}"), out)),
        _ => out.push(at.to_owned()),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u32..30).prop_map(Value::from),
        (0u32..40).prop_map(|back| Value::from(u32::MAX - back)),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::from),
        Just(Value::Null),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_sealed_lie_in_the_header_never_panics(pick in any::<prop::sample::Index>(), value in any_value()) {
        let (model, bytes) = BOUNDED.with(Clone::clone);
        let mut pointers = ["/text/bytes", "/text/ids", "/bound"].map(str::to_owned).to_vec();
        leaves(&header(&bytes), "", &mut pointers);
        let pointer = &pointers[pick.index(pointers.len())];
        let lying = edit_header(&bytes, |h| *h.pointer_mut(pointer).unwrap() = value);
        use_if_accepted(&model, &lying);
    }

    #[test]
    fn sealed_nonsense_in_the_tensors_never_panics(
        at in any::<prop::sample::Index>(),
        word in prop_oneof![any::<u32>(), Just(0x7fc0_0000), Just(0x7f80_0000), Just(0xff80_0000), Just(u32::MAX)],
        count in 1..300usize,
        in_sal in any::<bool>(),
    ) {
        let (model, mut bytes) = BOUNDED.with(Clone::clone);
        let all = tensors_at(&bytes)..bytes.len() - CHECKSUM;
        let range = if in_sal { tensor(&bytes, "layers.1.sal") } else { all };
        let first = at.index(range.len() / 4);
        for i in (first..range.len() / 4).take(if in_sal { 1 } else { count }) {
            set_word(&mut bytes, range.start + 4 * i, word);
        }
        use_if_accepted(&model, &reseal(bytes));
    }

    #[test]
    fn a_sealed_header_of_any_bytes_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (model, bytes) = BOUNDED.with(Clone::clone);
        use_if_accepted(&model, &with_header(&bytes, &noise));
    }
}
