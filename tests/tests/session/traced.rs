//! Watched gates are those of the undivided text, on every device, and watching changes nothing.

use pollster::block_on;
use taipan::{GateTrace, Session};
use taipan_tests::drive::{endless, greedy, ids_of, prompted, restored, save, take};

use super::{devices, talker};

const PROMPT: [u32; 6] = [3, 0, 17, 9, 4, 11];
const MADE: usize = 7;

fn append(all: &mut GateTrace, more: &GateTrace) {
    all.mask.resize(more.mask.len(), Vec::new());
    all.alpha.resize(more.alpha.len(), Vec::new());
    for (all, more) in all.mask.iter_mut().zip(&more.mask) {
        all.extend(more);
    }
    for (all, more) in all.alpha.iter_mut().zip(&more.alpha) {
        all.extend(more);
    }
}

/// The gates of a prompt and of the tokens made after it, one call a token, then the ids. Saving sends the last one through the
/// layers; what was decided about it is in a copy as well.
fn watched(session: &mut Session) -> (GateTrace, Vec<u32>) {
    let (mut gates, mut ids) = (GateTrace::default(), Vec::new());
    session.trace_gates(true);
    block_on(session.prefill(&PROMPT)).unwrap();
    append(&mut gates, &session.take_gates());
    for _ in 0..MADE {
        ids.extend(ids_of(&take(session, &endless(greedy()), 1)));
        append(&mut gates, &session.take_gates());
    }
    assert!(!save(session).is_empty());
    let mut fork = block_on(session.fork()).unwrap();
    append(&mut gates, &fork.take_gates());
    session.trace_gates(true); // it is on already, so nothing is forgotten
    assert_eq!(session.take_gates().mask.concat().len(), gates.mask.len(), "one token of every layer");
    session.trace_gates(false);
    (gates, ids)
}

#[test]
fn the_gates_watched_are_those_of_the_whole_text() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let (gates, ids) = watched(&mut model.session(Default::default()).unwrap());
        let text: Vec<u32> = PROMPT.iter().chain(&ids).copied().collect();
        let mut whole = model.session(Default::default()).unwrap();
        block_on(whole.prefill_rows(&text, |_| Ok(()))).unwrap();
        let expected = whole.gates();
        assert_eq!(gates.mask, expected.mask, "{name}");
        assert!(!expected.mask.is_empty() && expected.mask.iter().all(|layer| layer.len() == text.len()), "{name}");
        for (found, expected) in gates.alpha.iter().flatten().zip(expected.alpha.iter().flatten()) {
            assert!((found - expected).abs() <= 1e-3, "{name}: {found}, {expected}");
        }
    }
}

#[test]
fn watching_changes_nothing() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let start = save(&mut prompted(&model, &PROMPT));
        let (mut plain, mut traced) = (restored(&model, &start), restored(&model, &start));
        traced.trace_gates(true);
        let expected = ids_of(&take(&mut plain, &endless(greedy()), MADE));
        assert_eq!(ids_of(&take(&mut traced, &endless(greedy()), MADE)), expected, "{name}");
        assert_eq!(save(&mut traced), save(&mut plain), "{name}");
    }
}
