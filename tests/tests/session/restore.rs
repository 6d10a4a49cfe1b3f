//! Save and restore: to the bit on the same device, within tolerance on another.

use pollster::block_on;
use taipan::{AttentionBound, Device, GenerateOptions, LoadOptions, Model, Session, SessionOptions};
use taipan_tests::compare::assert_close;
use taipan_tests::drive::{
    decode_logits, endless, greedy, ids_of, prefill_logits, prompted, random, restored, save, take, text_of,
};
use taipan_tests::pieces::Pieces;
use taipan_tests::saved::Saved;
use taipan_tests::tiny::{Tiny, ids};
use taipan_tests::{device, saved};

use super::{devices, talker};

/// States carried to another device, against staying (spec §6: prefill, then decode).
const ACROSS: f64 = 1e-3;

/// Prompts before, at and long after the wrap of the window (8), the convolution (4) and the penalty ring (1024).
const LENGTHS: [usize; 6] = [1, 3, 8, 9, 100, 1030];

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Everything that a session can go on with, to the bit.
fn future(session: &mut Session) -> (Vec<u32>, Vec<u32>, String, Saved) {
    let tokens = take(session, &endless(random(11)), 6);
    let text = text_of(&tokens) + &session.finish_text().unwrap();
    let logits = [decode_logits(session, &[4, 1]), prefill_logits(session, &ids(12, 20, 5))].concat();
    (ids_of(&tokens), bits(&logits), text, save(session))
}

#[test]
fn restored_is_the_same_to_the_bit() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        for length in LENGTHS {
            for made in [0, 2] {
                let what = format!("{name}, prompt of {length}, {made} made");
                let mut session = prompted(&model, &ids(length, 22, 3));
                let _ = take(&mut session, &endless(random(2)), made);
                let bytes = save(&mut session);
                let mut other = restored(&model, &bytes);
                assert_eq!(other.position(), session.position(), "{what}");
                assert_eq!(save(&mut other), bytes, "{what}: saved again");
                // Into a session that has lived already.
                let mut used = prompted(&model, &ids(29, 22, 9));
                let _ = take(&mut used, &endless(greedy()), 3);
                block_on(used.restore(&bytes)).unwrap();
                let expected = future(&mut session);
                assert_eq!(future(&mut other), expected, "{what}: a new session");
                assert_eq!(future(&mut used), expected, "{what}: a used session");
            }
        }
    }
}

#[test]
fn an_untouched_session_can_be_saved_too() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let bytes = save(&mut model.session(SessionOptions::default()).unwrap());
        let mut used = prompted(&model, &[1, 2, 3]);
        block_on(used.restore(&bytes)).unwrap();
        assert_eq!(used.position(), 0, "{name}");
        assert_eq!(save(&mut used), bytes, "{name}");
        block_on(used.prefill(&[7, 8])).unwrap();
        assert_eq!(save(&mut used), save(&mut prompted(&model, &[7, 8])), "{name}");
    }
}

#[test]
fn text_that_is_held_is_part_of_the_state() {
    let model = Tiny::new("ms").pieces(Pieces::new(&["> ", "a", "b", "c\u{e9}", "d"])).scripted().open(&Device::cpu());
    let stopping = |stop: &str| GenerateOptions { stop: vec![stop.to_owned()], ..endless(greedy()) };
    let mut session = prompted(&model, &[0]);
    assert_eq!(text_of(&take(&mut session, &stopping("abcx"), 2)), "");
    let mut other = restored(&model, &save(&mut session));
    let tokens = take(&mut other, &stopping("abcx"), 1);
    assert_eq!(text_of(&tokens), "abc\u{e9}", "what was held comes with what ends the suspense");
    let mut other = restored(&model, &save(&mut session));
    let tokens = take(&mut other, &stopping("abc"), 9);
    assert_eq!((text_of(&tokens), tokens.len()), (String::new(), 1), "a stop string that began before the save");
    assert_eq!(restored(&model, &save(&mut session)).finish_text().unwrap(), "ab");
}

#[test]
fn the_bound_and_its_credit_are_part_of_the_state() {
    let bound = AttentionBound::new(0.1, 2.0).unwrap();
    for (name, device) in devices() {
        let model = Tiny::new("sm").gate(taipan_tests::tiny::Gate::Always).open(&device);
        let mut session =
            model.session(SessionOptions { attention_bound: Some(bound), ..SessionOptions::default() }).unwrap();
        block_on(session.prefill(&ids(7, 48, 1))).unwrap();
        let bytes = save(&mut session);
        let mut other = restored(&model, &bytes);
        assert_eq!(save(&mut other), bytes, "{name}");
        for session in [&mut session, &mut other] {
            block_on(session.prefill(&ids(30, 48, 2))).unwrap();
            let stats = block_on(session.stats()).unwrap().sal[0];
            // 2 of the burst, and a tenth of 37 tokens.
            assert_eq!((stats.selected, stats.refused), (5, 32), "{name}");
        }
        let mut free = prompted(&model, &ids(7, 48, 1));
        block_on(other.restore(&save(&mut free))).unwrap();
        block_on(other.prefill(&ids(30, 48, 2))).unwrap();
        assert_eq!(block_on(other.stats()).unwrap().sal[0].refused, 0, "{name}: restoring takes the bound away too");
    }
}

/// The same model with other runtime sizes has the same state.
fn variants() -> Vec<(String, Model)> {
    let tiny = talker();
    let mut all = Vec::new();
    for (name, device) in [("cpu", Device::cpu()), ("gpu", device::gpu()), ("base tier", device::base_tier())] {
        for segment in [None, Some(5)] {
            let options = LoadOptions { segment, ..LoadOptions::default() };
            all.push((format!("{name}, segment {segment:?}"), tiny.open_with(&device, options)));
        }
    }
    all
}

#[test]
fn a_state_travels_between_devices() {
    let models = variants();
    let more = ids(9, 22, 8);
    for length in [5, 40] {
        for (from, source) in &models {
            let mut session = prompted(source, &ids(length, 22, 4));
            let _ = take(&mut session, &endless(greedy()), 3);
            let bytes = save(&mut session);
            let stayed = decode_logits(&mut session, &more);
            let greedy_ids = ids_of(&take(&mut session, &endless(greedy()), 8));
            for (to, target) in &models {
                let what = format!("{from} to {to}, prompt of {length}");
                let mut other = restored(target, &bytes);
                assert_eq!(save(&mut other), bytes, "{what}: nothing is lost on the way");
                assert_close(&what, &decode_logits(&mut other, &more), &stayed, ACROSS);
                assert_eq!(ids_of(&take(&mut other, &endless(greedy()), 8)), greedy_ids, "{what}: greedy");
            }
        }
    }
}

#[test]
fn the_saved_form_is_the_one_that_is_written_down() {
    let model = talker().open(&Device::cpu());
    let mut session = prompted(&model, &[3, 1, 4, 1, 5, 9, 2, 6, 5, 3]);
    let bytes = save(&mut session);
    assert_eq!(&bytes[..8], b"TAIPANST");
    assert_eq!(saved::word(&bytes, saved::VERSION_AT), 1);
    let header = saved::header(&bytes);
    assert_eq!(header["fingerprint"], model.fingerprint());
    assert_eq!(header["consumed"], 10);
    assert_eq!(Saved(saved::reseal(bytes.to_vec())), bytes, "the checksum");
    // Rings are oldest first: the newest id is the last of 1024.
    let recent = &bytes[saved::tensor(&bytes, "recent")];
    assert_eq!(saved::word(recent, recent.len() - 4), 3);
    assert_eq!(saved::word(recent, recent.len() - 40), 3);
    assert_eq!(saved::word(recent, recent.len() - 44), 0);
}

#[test]
fn the_window_is_saved_oldest_first() {
    // One key and value per token, so equal tokens of a model that starts with attention have equal entries, if they are
    // computed in the same way.
    let model = Tiny::new("s").open_with(&Device::cpu(), LoadOptions { recurrent: Some(0), ..LoadOptions::default() });
    let entry = 4 * 64;
    let newest = |prompt: &[u32]| {
        let bytes = save(&mut prompted(&model, prompt));
        bytes[saved::tensor(&bytes, "layers.0.window")].chunks(entry).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let (short, long) = (newest(&[7, 8, 9]), newest(&[1, 2, 3, 4, 5, 6, 1, 2, 7, 8, 9]));
    assert_eq!(short.len(), 8);
    assert_eq!(short[5..], long[5..], "the three newest");
    assert!(short[..5].iter().flatten().all(|b| *b == 0), "before the first token there is nothing");
    assert_ne!(long[4], long[3]);
}
