//! The last generated token has not gone through the layers yet. Whatever comes next starts with it.

use pollster::block_on;
use taipan::{Device, LoadOptions, Model, SessionOptions};
use taipan_tests::compare::assert_close;
use taipan_tests::drive::{
    decode_logits, endless, greedy, ids_of, prefill_logits, prompted, restored, save, settled, take,
};

use super::{devices, talker};

/// Decode and prefill of the same tokens (spec §6).
const SPLIT: f64 = 1e-3;
const PROMPT: [u32; 4] = [2, 9, 1, 16];
const MORE: [u32; 7] = [5, 0, 3, 3, 14, 20, 1];

fn models() -> Vec<(String, Model)> {
    let mut models = Vec::new();
    for (name, device) in devices() {
        // With segments of one token the pending one needs a segment of its own.
        for segment in [None, Some(1), Some(3)] {
            let options = LoadOptions { segment, ..LoadOptions::default() };
            models.push((format!("{name}, segment {segment:?}"), talker().open_with(&device, options)));
        }
    }
    models
}

#[test]
fn a_prompt_after_generated_text_is_one_prompt() {
    let options = endless(greedy());
    for (name, model) in models() {
        for n in [1, 2, 6] {
            let mut session = prompted(&model, &PROMPT);
            let made = ids_of(&take(&mut session, &options, n));
            assert_eq!(session.position(), PROMPT.len() + n, "{name}");
            block_on(session.prefill(&MORE)).unwrap();
            let mut whole = prompted(&model, &[&PROMPT[..], &made, &MORE].concat());
            assert_eq!(session.position(), whole.position(), "{name}");
            let (logits, expected) = (block_on(session.logits()).unwrap(), block_on(whole.logits()).unwrap());
            assert_close(&format!("{name}, {n} made"), &logits, &expected, SPLIT);
            let (a, b) = (take(&mut session, &options, 8), take(&mut whole, &options, 8));
            assert_eq!(ids_of(&a), ids_of(&b), "{name}, {n} made: greedy continuation");
        }
    }
}

#[test]
fn every_way_to_go_on_starts_with_the_pending_token() {
    for (name, model) in models() {
        let mut start = prompted(&model, &PROMPT);
        let made = ids_of(&take(&mut start, &endless(greedy()), 3));
        let bytes = save(&mut start);
        let copy = || restored(&model, &bytes);
        let all = [&PROMPT[..], &made, &MORE].concat();
        let vocab = model.config().vocab_size;
        let expected = prefill_logits(&mut model.session(SessionOptions::default()).unwrap(), &all);
        let rest = &expected[(PROMPT.len() + made.len()) * vocab..];

        assert_close(&format!("{name}: decode"), &decode_logits(&mut copy(), &MORE), rest, SPLIT);
        assert_close(&format!("{name}: rows"), &prefill_logits(&mut copy(), &MORE), rest, SPLIT);
        let before = &expected[(PROMPT.len() + made.len() - 1) * vocab..][..vocab];
        assert_close(&format!("{name}: logits"), &block_on(copy().logits()).unwrap(), before, SPLIT);
        let mut iterated = copy();
        assert_eq!(block_on(iterated.prefill_iter(MORE)).unwrap(), MORE.len(), "{name}: ids given");
        let last = &rest[rest.len() - vocab..];
        assert_close(&format!("{name}: iterator"), &block_on(iterated.logits()).unwrap(), last, SPLIT);
    }
}

#[test]
fn refused_input_leaves_the_pending_token_pending() {
    let vocab = talker().parsed().vocab_size as u32;
    for (name, device) in devices() {
        let model = talker().open(&device);
        let mut session = prompted(&model, &PROMPT);
        let _ = take(&mut session, &endless(greedy()), 3);
        let before = save(&mut session);
        assert!(block_on(session.prefill(&[1, vocab])).is_err(), "{name}");
        assert!(block_on(session.prefill(&[])).is_err(), "{name}");
        assert!(block_on(session.prefill_iter([vocab])).is_err(), "{name}");
        assert!(block_on(session.prefill_rows(&[0, vocab], |_| Ok(()))).is_err(), "{name}");
        assert!(block_on(session.prefill_rows(&[], |_| Ok(()))).is_err(), "{name}");
        assert!(block_on(session.decode(vocab)).is_err(), "{name}");
        assert_eq!(save(&mut session), before, "{name}");
    }
}

#[test]
fn asking_for_logits_changes_nothing_that_follows() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let options = endless(taipan_tests::drive::random(5));
        let mut asked = prompted(&model, &PROMPT);
        let mut never = prompted(&model, &PROMPT);
        for _ in 0..6 {
            let _ = take(&mut asked, &options, 1);
            block_on(asked.logits()).unwrap();
            block_on(asked.logits()).unwrap();
            let _ = take(&mut never, &options, 1);
        }
        assert_eq!(settled(&mut asked), settled(&mut never), "{name}");
    }
}

#[test]
fn one_token_prompts_of_every_id_differ() {
    let model = talker().open(&Device::cpu());
    let all: Vec<Vec<f32>> =
        (0..model.config().vocab_size as u32).map(|id| block_on(prompted(&model, &[id]).logits()).unwrap()).collect();
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b), "the prompt {i} gives what another gives");
    }
}
