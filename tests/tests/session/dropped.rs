//! Futures dropped while they wait for the device: a GPU, where every step waits. What a dropped prefill leaves behind on the CPU is
//! tested beside the session.

use std::pin::pin;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::task::noop_waker_ref;
use pollster::block_on;
use taipan::{LoadOptions, Model, Session, SessionOptions};
use taipan_tests::device;
use taipan_tests::drive::{endless, greedy, ids_of, prompted, random, restored, save, settled, take, text_of};
use taipan_tests::saved::Saved;
use taipan_tests::tiny::ids;

use super::{devices, talker};

const LENGTH: usize = 10;

/// Polls a future once, then drops it; whether it was done.
fn poll_and_drop<T>(future: impl Future<Output = T>) -> bool {
    pin!(future).poll(&mut Context::from_waker(noop_waker_ref())).is_ready()
}

/// Asks for the next token, and gives up while it is being made.
fn give_up(session: &mut Session, seed: Option<u64>) {
    let mut tokens = pin!(session.generate(endless(seed.map_or_else(greedy, random))));
    assert!(!poll_and_drop(tokens.next()), "a GPU has to be waited for");
}

fn start() -> (Model, Saved) {
    let model = talker().open(&device::gpu());
    let start = save(&mut prompted(&model, &[3, 0, 17, 9, 4]));
    (model, start)
}

#[test]
fn a_token_given_up_was_never_made() {
    let (model, start) = start();
    for seed in [None, Some(3)] {
        let options = endless(seed.map_or_else(greedy, random));
        let mut never = restored(&model, &start);
        let whole = take(&mut never, &options, LENGTH);
        let text = text_of(&whole) + &never.finish_text().unwrap();
        for at in 0..LENGTH {
            let mut delivered = restored(&model, &start);
            let _ = take(&mut delivered, &options, at);

            let mut session = restored(&model, &start);
            let mut tokens = take(&mut session, &options, at);
            give_up(&mut session, seed);
            assert_eq!(settled(&mut session), settled(&mut delivered), "given up after {at}: state");
            give_up(&mut session, seed);
            give_up(&mut session, seed);
            assert_eq!(settled(&mut session), settled(&mut delivered), "given up after {at}, again: state");
            tokens.extend(take(&mut session, &options, LENGTH - at));
            assert_eq!(ids_of(&tokens), ids_of(&whole), "given up after {at}: ids");
            assert_eq!(text_of(&tokens) + &session.finish_text().unwrap(), text, "given up after {at}: text");
            assert_eq!(save(&mut session), save(&mut never), "given up after {at}: state at the end");
        }
    }
}

#[test]
fn a_long_text_given_up_is_undone_to_the_last_token() {
    let (model, start) = start();
    for seed in [None, Some(3)] {
        let options = || endless(seed.map_or_else(greedy, random));
        let mut delivered = restored(&model, &start);
        let mut whole = Vec::new();
        // The device copies its state now and then: give up before, at and behind such a place.
        for n in [0, 1, 2, 30, 31, 32, 33, 34, 63, 64, 65, 66, 90] {
            whole.extend(take(&mut delivered, &options(), n - whole.len()));
            let mut session = restored(&model, &start);
            {
                let mut tokens = pin!(session.generate(options()));
                for token in &whole {
                    assert_eq!(block_on(tokens.next()).unwrap().unwrap().id, token.id);
                }
                assert!(!poll_and_drop(tokens.next()), "a GPU has to be waited for");
            }
            assert_eq!(settled(&mut session), settled(&mut delivered), "given up after {n}: state");
        }
    }
}

#[test]
fn what_is_saved_or_forked_after_giving_up_goes_on_alike() {
    let (model, start) = start();
    let options = endless(greedy());
    let whole = take(&mut restored(&model, &start), &options, LENGTH);
    let mut session = restored(&model, &start);
    let _ = take(&mut session, &options, 5);
    give_up(&mut session, None);
    let saved = save(&mut session);
    let fork = block_on(session.fork()).unwrap();
    for mut other in [restored(&model, &saved), fork, session] {
        assert_eq!(other.position(), 10);
        assert_eq!(ids_of(&take(&mut other, &options, LENGTH - 5)), ids_of(&whole)[5..]);
    }
}

#[test]
fn a_stream_that_is_never_polled_does_nothing() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let mut session = prompted(&model, &[5, 6]);
        let _ = take(&mut session, &endless(greedy()), 2);
        let before = save(&mut session);
        drop(session.generate(endless(random(1))));
        drop(pin!(session.generate(endless(random(1)))).next());
        assert_eq!(save(&mut session), before, "{name}");
    }
}

#[test]
fn a_token_on_the_cpu_is_never_half_made() {
    let model = talker().open(&taipan::Device::cpu());
    let mut session = prompted(&model, &[5, 6]);
    let mut tokens = pin!(session.generate(endless(greedy())));
    let poll = pin!(tokens.next()).poll(&mut Context::from_waker(noop_waker_ref()));
    assert!(matches!(poll, Poll::Ready(Some(Ok(_)))));
}

#[test]
fn reading_given_up_changes_nothing_and_feeding_given_up_has_happened() {
    let options = LoadOptions { segment: Some(4), ..LoadOptions::default() };
    let model = talker().open_with(&device::gpu(), options);
    let prompt = ids(11, 22, 1);
    let mut session = prompted(&model, &prompt);
    let before = save(&mut session);
    assert!(!poll_and_drop(session.save()));
    assert!(!poll_and_drop(session.stats()));
    assert!(!poll_and_drop(session.logits()));
    assert_eq!(save(&mut session), before);

    assert!(!poll_and_drop(session.decode(7)));
    let mut fed = restored(&model, &before);
    block_on(fed.decode(7)).unwrap();
    assert_eq!(save(&mut session), save(&mut fed));

    // A prompt given up is fed up to a segment's end; the position tells which.
    let mut session = model.session(SessionOptions::default()).unwrap();
    assert!(!poll_and_drop(session.prefill(&prompt)));
    assert_eq!(session.position(), 4);
    block_on(session.prefill(&prompt[4..])).unwrap();
    assert_eq!(save(&mut session), before);
}
