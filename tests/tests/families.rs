//! Checkpoints of the Mamba-2 family as others publish them, on every device, against what transformers computes.

use std::collections::BTreeSet;

use pollster::block_on;
use taipan::{Device, Family, LoadOptions, Model, SessionOptions};
use taipan_tests::compare::assert_close;
use taipan_tests::device;
use taipan_tests::drive::{decode_logits, endless, greedy, ids_of, prefill_logits, take};
use taipan_tests::golden::{Case, Prompt, family_cases};

/// Prefill in parts or then decode, against one prefill (spec §6).
const SPLIT: f64 = 1e-3;

fn open(case: &Case, device: &Device, options: LoadOptions) -> Model {
    block_on(Model::open(&case.dir, device, options)).unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

fn check_prompt(what: &str, model: &Model, p: &Prompt, tolerance: f64) {
    let mut session = model.session(SessionOptions::default()).unwrap();
    let logits = prefill_logits(&mut session, &p.ids);
    assert_close(&format!("{what}: logits"), &logits, &p.logits, tolerance);
    let continued = ids_of(&take(&mut session, &endless(greedy()), p.greedy.len()));
    assert_eq!(continued, p.greedy, "{what}: greedy continuation");
    let mut session = model.session(SessionOptions::default()).unwrap();
    assert_close(&format!("{what}: decode"), &decode_logits(&mut session, &p.ids), &p.logits, tolerance);
}

#[test]
fn every_case_on_every_device() {
    let mut families = BTreeSet::new();
    for case in family_cases() {
        for (name, device, tolerance) in device::all() {
            let model = open(&case, &device, LoadOptions::default());
            families.insert(model.config().family.name());
            for p in &case.prompts {
                check_prompt(&format!("{} [{}] on {name}", case.name, p.ids.len()), &model, p, tolerance);
            }
        }
    }
    let expected: BTreeSet<_> = Family::PUBLISHED.iter().map(|family| family.name()).collect();
    assert_eq!(families, expected, "every family has a case");
}

#[test]
fn short_segments_and_split_prompts_change_nothing() {
    for case in family_cases() {
        for (name, device, tolerance) in device::all().into_iter().take(2) {
            let options = LoadOptions { segment: Some(33), chunk: Some(16), ..LoadOptions::default() };
            let model = open(&case, &device, options);
            let p = case.prompts.iter().filter(|p| p.ids.len() < 100).max_by_key(|p| p.ids.len()).unwrap();
            let what = format!("{} [{}] on {name}", case.name, p.ids.len());
            let mut session = model.session(SessionOptions::default()).unwrap();
            let whole = prefill_logits(&mut session, &p.ids);
            assert_close(&what, &whole, &p.logits, tolerance);
            let vocab = model.config().vocab_size;
            for at in [1, p.ids.len() / 2, p.ids.len() - 1] {
                let mut session = model.session(SessionOptions::default()).unwrap();
                block_on(session.prefill(&p.ids[..at])).unwrap();
                let rest = prefill_logits(&mut session, &p.ids[at..]);
                assert_close(&format!("{what}, split at {at}"), &rest, &whole[at * vocab..], SPLIT);
            }
        }
    }
}
