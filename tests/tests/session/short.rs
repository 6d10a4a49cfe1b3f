//! Short prompts run token by token, longer ones as chunks; both say the same, and which it was shows in the last bits.

use pollster::block_on;
use taipan::{LoadOptions, Model, Session};
use taipan_tests::compare::assert_close;
use taipan_tests::drive::{prompted, save};
use taipan_tests::tiny::ids;

use super::{devices, talker};

fn one_by_one(model: &Model, text: &[u32]) -> Session {
    let mut session = model.session(Default::default()).unwrap();
    for id in text {
        block_on(session.decode(*id)).unwrap();
    }
    session
}

#[test]
fn a_prompt_runs_token_by_token_up_to_so_many() {
    let text = ids(6, 22, 1);
    for (name, device) in devices() {
        let open = |recurrent| {
            talker().open_with(&device, LoadOptions { segment: Some(4), recurrent, ..LoadOptions::default() })
        };
        for (most, text, alike) in [
            (Some(2), &text[..2], true),
            (Some(2), &text[..3], false),
            (Some(4), &text[..], true), // a segment and the two that are left
            (Some(2), &text[..], false),
            (Some(0), &text[..1], false),
            (None, &text[..3], true),
        ] {
            let model = open(most);
            let (mut fed, mut decoded) = (prompted(&model, text), one_by_one(&model, text));
            let what = format!("{name}: {} tokens, up to {most:?} one by one", text.len());
            assert_eq!(save(&mut fed) == save(&mut decoded), alike, "{what}");
            let logits = |session: &mut Session| block_on(session.logits()).unwrap();
            assert_close(&what, &logits(&mut fed), &logits(&mut decoded), 1e-3);
        }
    }
}

#[test]
fn gates_of_tokens_that_run_one_by_one_are_watched() {
    let text = ids(7, 22, 2);
    for (name, device) in devices() {
        let options = LoadOptions { segment: Some(4), recurrent: Some(3), ..LoadOptions::default() };
        let model = talker().open_with(&device, options);
        let mut session = model.session(Default::default()).unwrap();
        session.trace_gates(true);
        block_on(session.prefill(&text)).unwrap();
        let watched = session.take_gates();
        let mut whole = model.session(Default::default()).unwrap();
        block_on(whole.prefill_rows(&text, |_| Ok(()))).unwrap();
        assert_eq!(watched.mask, whole.gates().mask, "{name}");
        assert!(watched.mask.iter().all(|layer| layer.len() == 7), "{name}");
    }
}
