//! Text comes in whole characters, as early as it is final.

use proptest::prelude::*;
use taipan::{Device, GenerateOptions, TextDecoder};
use taipan_tests::drive::{endless, greedy, ids_of, prompted, random, take, text_of};
use taipan_tests::pieces::Pieces;
use taipan_tests::tiny::Tiny;

use super::talker;

#[test]
fn a_character_cut_anywhere_comes_whole() {
    let long = "xé€🐍ßab日本語!ñ🧑‍🚀.";
    let cases: [(&str, &[usize]); 6] =
        [("xé€🐍!", &[1]), ("xé€🐍ß!", &[2]), (long, &[3]), (long, &[1, 2, 5]), (long, &[2, 1, 3]), (long, &[1, 4])];
    for (text, lengths) in cases {
        let pieces = Pieces::cut(text, lengths);
        let recital: Vec<u32> = (1..pieces.len() as u32).collect();
        let model = Tiny::new("mm").pieces(pieces.clone()).scripted().open(&Device::cpu());
        let mut session = prompted(&model, &[0]);
        let tokens = take(&mut session, &endless(greedy()), recital.len());
        assert_eq!(ids_of(&tokens), recital, "the model recites, cut by {lengths:?}");
        for n in 1..=tokens.len() {
            let expected = whole_characters(&pieces.bytes_of(&recital[..n]));
            assert_eq!(text_of(&tokens[..n]), expected, "after {n} pieces, cut by {lengths:?}");
        }
    }
}

/// The text of bytes, without an unfinished character at the end.
fn whole_characters(bytes: &[u8]) -> String {
    let mut end = bytes.len();
    for back in 1..=3.min(bytes.len()) {
        let lead = bytes[bytes.len() - back];
        let needs = match lead {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        if lead & 0xc0 == 0xc0 && needs > back {
            end = bytes.len() - back;
        }
    }
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[test]
fn pieces_of_text_join_to_the_text_of_all_ids() {
    let model = talker().open(&Device::cpu());
    for seed in 0..20 {
        let mut session = prompted(&model, &[1]);
        let tokens = take(&mut session, &endless(random(seed)), 40);
        let text = text_of(&tokens) + &session.finish_text().unwrap();
        assert_eq!(text, model.tokenizer().unwrap().decode(&ids_of(&tokens)).unwrap(), "seed {seed}");
    }
}

#[test]
fn text_is_held_only_as_long_as_it_could_become_a_stop_string() {
    let model = talker().open(&Device::cpu());
    let stops = ["ab ab", "€é", "\n\n", "bbb"];
    let could_start = |tail: &str| stops.iter().any(|s| s.len() > tail.len() && s.starts_with(tail));
    let stop: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
    for seed in 0..30 {
        let mut session = prompted(&model, &[1]);
        let options = GenerateOptions { stop: stop.clone(), ..endless(random(seed)) };
        let tokens = take(&mut session, &options, 40);
        let (mut decoder, mut all) = (TextDecoder::default(), String::new());
        for (n, token) in tokens.iter().enumerate() {
            all += &decoder.push(model.tokenizer().unwrap(), token.id).unwrap();
            let delivered = text_of(&tokens[..=n]);
            if token.finish.is_some() {
                let first = stops.iter().filter_map(|s| all.find(s)).min();
                assert_eq!(Some(delivered.len()), first, "seed {seed}: the text ends where the stop string starts");
                continue;
            }
            assert!(!stops.iter().any(|s| all.contains(s)), "seed {seed}: missed in {all:?}");
            let held = all.strip_prefix(&delivered).expect("what is delivered is the text");
            assert!(held.is_empty() || could_start(held), "seed {seed}: {held:?} is held");
            let longest = all.char_indices().map(|(i, _)| &all[i..]).find(|tail| could_start(tail));
            assert_eq!(held, longest.unwrap_or(""), "seed {seed}: held");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cuts of the stream anywhere, and again, with stop strings in play.
    #[test]
    fn stopping_now_and_then_changes_no_text(seed in 0u64..1000, cuts in proptest::collection::vec(1usize..6, 1..8)) {
        thread_local! {
            static MODEL: taipan::Model = talker().open(&Device::cpu());
        }
        let model = MODEL.with(Clone::clone);
        let options = GenerateOptions { stop: vec!["ab ab".into(), "é\n".into()], ..endless(random(seed)) };
        let total = cuts.iter().sum();
        let mut whole = prompted(&model, &[2, 5]);
        let expected = take(&mut whole, &options, total);
        let mut parts = prompted(&model, &[2, 5]);
        let mut tokens = Vec::new();
        for n in cuts {
            let limit = n % 2 == 0;
            let part = GenerateOptions { max_tokens: limit.then_some(n), ..options.clone() };
            tokens.extend(take(&mut parts, &part, n));
            if tokens.len() >= expected.len() {
                break;
            }
        }
        prop_assert_eq!(ids_of(&tokens), ids_of(&expected));
        prop_assert_eq!(text_of(&tokens), text_of(&expected));
        prop_assert_eq!(parts.finish_text().unwrap(), whole.finish_text().unwrap());
    }
}
