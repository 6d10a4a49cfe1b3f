//! After any stop the state is that of exactly the delivered tokens: stop at every position, go on, compare with never
//! having stopped.

use pollster::block_on;
use taipan::{Finish, GenerateOptions, Model, Sampling, Token};
use taipan_tests::drive::{endless, greedy, ids_of, prompted, random, restored, save, take, text_of};
use taipan_tests::pieces::{END, Pieces};
use taipan_tests::saved::Saved;
use taipan_tests::tiny::Tiny;

use super::{devices, talker};

const PROMPT: [u32; 5] = [3, 0, 17, 9, 4];

/// What a generation that never stops delivers, from a saved start: tokens, all text, and the state after them.
struct Whole {
    start: Saved,
    length: usize,
    tokens: Vec<Token>,
    text: String,
    end: Saved,
}

impl Whole {
    fn new(model: &Model, options: &GenerateOptions) -> Self {
        // A software GPU takes milliseconds for a token.
        let length = if model.device().is_cpu() { 20 } else { 9 };
        let start = save(&mut prompted(model, &PROMPT));
        let mut session = restored(model, &start);
        let tokens = take(&mut session, options, length);
        assert_eq!(tokens.len(), length);
        let end = save(&mut session);
        let text = text_of(&tokens) + &session.finish_text().unwrap();
        Self { start, length, tokens, text, end }
    }

    /// The state after the first `n` tokens.
    fn state(&self, model: &Model, options: &GenerateOptions, n: usize) -> Saved {
        let mut session = restored(model, &self.start);
        let _ = take(&mut session, options, n);
        save(&mut session)
    }
}

fn both_samplings() -> [(&'static str, Sampling); 2] {
    [("greedy", greedy()), ("random", random(7))]
}

#[test]
fn a_limit_or_a_dropped_stream_at_every_position() {
    for (device_name, device) in devices() {
        let model = talker().open(&device);
        for (sampling_name, sampling) in both_samplings() {
            let options = endless(sampling);
            let whole = Whole::new(&model, &options);
            for at in 1..whole.length {
                let state = whole.state(&model, &options, at);
                let limited = GenerateOptions { max_tokens: Some(at), ..options.clone() };
                for (way, first_options) in [("limit", &limited), ("dropped", &options)] {
                    let what = format!("{way} after {at}, {sampling_name}, {device_name}");
                    let mut session = restored(&model, &whole.start);
                    let first = take(&mut session, first_options, at);
                    let finish = (way == "limit").then_some(Finish::Limit);
                    assert_eq!(first.last().unwrap().finish, finish, "{what}");
                    assert_eq!(save(&mut session), state, "{what}: state at the stop");
                    let rest = take(&mut session, &options, whole.length - at);
                    let ids = [ids_of(&first), ids_of(&rest)].concat();
                    assert_eq!(ids, ids_of(&whole.tokens), "{what}: ids");
                    assert_eq!(save(&mut session), whole.end, "{what}: state at the end");
                    let text = text_of(&first) + &text_of(&rest) + &session.finish_text().unwrap();
                    assert_eq!(text, whole.text, "{what}: text");
                }
            }
        }
    }
}

#[test]
fn a_stop_after_every_single_token() {
    for (device_name, device) in devices() {
        let model = talker().open(&device);
        for (sampling_name, sampling) in both_samplings() {
            let options = endless(sampling);
            let whole = Whole::new(&model, &options);
            let mut session = restored(&model, &whole.start);
            let one = GenerateOptions { max_tokens: Some(1), ..options };
            let tokens: Vec<Token> = (0..whole.length).flat_map(|_| take(&mut session, &one, 1)).collect();
            assert_eq!(ids_of(&tokens), ids_of(&whole.tokens), "{sampling_name}, {device_name}");
            assert_eq!(save(&mut session), whole.end, "{sampling_name}, {device_name}");
            let text = text_of(&tokens) + &session.finish_text().unwrap();
            assert_eq!(text, whole.text, "{sampling_name}, {device_name}");
        }
    }
}

/// The pieces of a text that the model recites, cut inside characters too; the last two follow the special token.
fn script() -> Pieces {
    let mut pieces: Vec<Vec<u8>> = vec![b"> ".to_vec()];
    let text = "One day, a naïve 🐍 ate 5 € worth of jam.";
    let mut rest = text.as_bytes();
    for length in [3, 4, 1, 2, 5, 2, 1, 3, 2, 4, 3, 1, 2, 5, 4, 2, 1, 1] {
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        if !piece.is_empty() {
            pieces.push(piece.to_vec());
        }
        rest = tail;
    }
    assert!(rest.is_empty(), "{rest:?} is left");
    pieces.extend([END, " Then", " slept."].map(|s| s.as_bytes().to_vec()));
    Pieces::new(&pieces)
}

fn reciter() -> Tiny {
    Tiny::new("msm").pieces(script()).scripted()
}

#[test]
fn a_stop_string_of_every_kind_at_every_place() {
    let pieces = script();
    let recital: Vec<u32> = (1..pieces.end().unwrap() as u32).collect();
    let text = String::from_utf8(pieces.bytes_of(&recital)).unwrap();
    let options = endless(greedy());
    for (device_name, device) in devices() {
        let model = reciter().open(&device);
        let start = save(&mut prompted(&model, &[0]));
        let whole: Vec<Saved> = (0..=recital.len())
            .map(|n| {
                let mut session = restored(&model, &start);
                assert_eq!(ids_of(&take(&mut session, &options, n)), recital[..n], "the model recites");
                save(&mut session)
            })
            .collect();
        // All of them on the CPU, one in seven on a GPU.
        let step = if device.is_cpu() { 1 } else { 7 };
        let starts: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        let spans = starts.iter().flat_map(|from| [1, 2, 5, 12].map(|n| (*from, n)));
        for (from, chars) in spans.step_by(step) {
            let stop: String = text[from..].chars().take(chars).collect();
            let what = format!("stop {stop:?}, {device_name}");
            let expected = &text[..text.find(&stop).unwrap()];
            let enough = |n: &usize| String::from_utf8_lossy(&pieces.bytes_of(&recital[..*n])).contains(&stop);
            let needed = (1..=recital.len()).find(enough).unwrap();
            let stopping = GenerateOptions { stop: vec!["absent".into(), stop.clone()], ..options.clone() };

            let mut session = restored(&model, &start);
            let tokens = take(&mut session, &stopping, 60);
            assert_eq!(text_of(&tokens), expected, "{what}: text before it and nothing else");
            assert_eq!(ids_of(&tokens), recital[..needed], "{what}: ids");
            assert_eq!(tokens.last().unwrap().finish, Some(Finish::Stop(stop.clone())), "{what}");
            assert!(tokens[..needed - 1].iter().all(|t| t.finish.is_none()), "{what}: one end");
            assert_eq!(save(&mut session), whole[needed], "{what}: state");
            let rest = take(&mut session, &options, recital.len() - needed);
            assert_eq!(ids_of(&rest), recital[needed..], "{what}: goes on");
            assert_eq!(save(&mut session), whole[recital.len()], "{what}: state at the end");
        }
    }
}

#[test]
fn the_first_of_several_stop_strings_counts() {
    let model = reciter().open(&taipan::Device::cpu());
    for (stops, expected, which) in [
        (vec!["jam", "naïve", "5 €"], "One day, a ", "naïve"),
        (vec!["naïve 🐍", "ïve"], "One day, a na", "ïve"),
        (vec!["", "worth"], "One day, a naïve 🐍 ate 5 € ", "worth"),
        (vec!["ay", "day, a"], "One d", "ay"),
        // Both come with the token "worth".
        (vec!["rth", "or"], "One day, a naïve 🐍 ate 5 € w", "or"),
        (vec!["t", "th"], "One day, a naïve 🐍 a", "t"),
    ] {
        let mut session = prompted(&model, &[0]);
        let stop = stops.iter().map(|s| (*s).to_owned()).collect();
        let tokens = take(&mut session, &GenerateOptions { stop, ..endless(greedy()) }, 60);
        assert_eq!(text_of(&tokens), expected, "{stops:?}");
        assert_eq!(tokens.last().unwrap().finish, Some(Finish::Stop(which.to_owned())), "{stops:?}");
    }
}

#[test]
fn the_end_of_text_token_ends_and_going_on_is_as_if_it_had_not() {
    let pieces = script();
    let end = pieces.end().unwrap();
    for (device_name, device) in devices() {
        let model = reciter().open(&device);
        let ignoring = endless(greedy());
        let mut never = prompted(&model, &[0]);
        let all = take(&mut never, &ignoring, end + 2);
        assert_eq!(text_of(&all), "One day, a naïve 🐍 ate 5 € worth of jam. Then slept.", "{device_name}");

        let mut session = prompted(&model, &[0]);
        let tokens = take(&mut session, &GenerateOptions { ignore_eos: false, ..ignoring.clone() }, 60);
        assert_eq!(ids_of(&tokens), ids_of(&all)[..end], "{device_name}");
        assert_eq!(tokens.last().unwrap().finish, Some(Finish::Eos), "{device_name}");
        assert_eq!(text_of(&tokens), "One day, a naïve 🐍 ate 5 € worth of jam.", "{device_name}");
        let rest = take(&mut session, &ignoring, 2);
        assert_eq!(text_of(&rest), " Then slept.", "{device_name}");
        assert_eq!(save(&mut session), save(&mut never), "{device_name}: state");
    }
}

#[test]
fn a_stop_string_may_come_in_two_generations() {
    let model = reciter().open(&taipan::Device::cpu());
    let stopping = GenerateOptions { stop: vec!["day, a naïve".into()], ..endless(greedy()) };
    for at in 1..12 {
        let mut session = prompted(&model, &[0]);
        let first = GenerateOptions { max_tokens: Some(at), ..stopping.clone() };
        let mut tokens = take(&mut session, &first, at);
        if matches!(tokens.last().unwrap().finish, Some(Finish::Limit)) {
            tokens.extend(take(&mut session, &stopping, 60));
        }
        assert_eq!(text_of(&tokens), "One ", "stopped after {at}");
        assert_eq!(tokens.last().unwrap().finish, Some(Finish::Stop("day, a naïve".into())), "stopped after {at}");
    }
}

#[test]
fn new_input_ends_the_text_that_is_held() {
    let model = reciter().open(&taipan::Device::cpu());
    let stopping = GenerateOptions { stop: vec!["One day, a boar".into()], ..endless(greedy()) };
    let mut session = prompted(&model, &[0]);
    assert_eq!(text_of(&take(&mut session, &stopping, 3)), "");
    assert_eq!(session.finish_text().unwrap(), "One day,");
    assert_eq!(session.finish_text().unwrap(), "");
    let mut session = prompted(&model, &[0]);
    let _ = take(&mut session, &stopping, 3);
    block_on(session.prefill(&[0])).unwrap();
    assert_eq!(text_of(&take(&mut session, &stopping, 1)), "");
    assert_eq!(session.finish_text().unwrap(), "One");
}
