//! A device that is lost, at any moment: a typed error from whatever comes next; no panic, no hang, nothing for others.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::task::noop_waker_ref;
use pollster::block_on;
use taipan::{Device, Error, GpuRequest, Model, SessionOptions};
use taipan_tests::device;
use taipan_tests::drive::{endless, greedy, ids_of, prompted, restored, save, take};
use taipan_tests::tiny::{Tiny, ids};

/// A device of a test's own, to be destroyed.
fn own() -> Device {
    block_on(Device::gpu(&GpuRequest::default())).expect("a GPU test needs an adapter, lavapipe will do")
}

fn destroy(device: &Device) {
    device.as_gpu().unwrap().destroy();
}

fn open(device: &Device) -> Model {
    Tiny::new("msm").open(device)
}

fn assert_lost<T>(what: &str, result: taipan::Result<T>) {
    match result {
        Err(error @ Error::DeviceLost { .. }) => {
            assert_eq!(error.code(), "device-lost");
            assert!(error.hint().is_some());
        }
        Err(error) => panic!("{what}: {error:?}"),
        Ok(_) => panic!("{what}: no error"),
    }
}

#[test]
fn before_a_model_is_opened() {
    let device = own();
    destroy(&device);
    assert_lost("open", Tiny::new("msm").try_open(&device, taipan::LoadOptions::default()));
}

#[test]
fn before_a_session_is_made() {
    let device = own();
    let model = open(&device);
    destroy(&device);
    assert_lost("session", model.session(SessionOptions::default()));
}

#[test]
fn before_every_kind_of_call() {
    let device = own();
    let model = open(&device);
    let mut sessions: Vec<_> = (0..10).map(|i| prompted(&model, &ids(9, 48, i))).collect();
    for session in &mut sessions {
        let _ = take(session, &endless(greedy()), 2);
    }
    let saved = save(&mut sessions[0]);
    destroy(&device);
    let mut session = sessions.into_iter();
    let mut next = || session.next().unwrap();
    assert_lost("decode", block_on(next().decode(1)));
    assert_lost("prefill", block_on(next().prefill(&[1, 2])));
    assert_lost("prefill_rows", block_on(next().prefill_rows(&[1, 2], |_| Ok(()))));
    assert_lost("logits", block_on(next().logits()));
    assert_lost("stats", block_on(next().stats()));
    assert_lost("save", block_on(next().save()));
    assert_lost("restore", block_on(next().restore(&saved)));
    assert_lost("fork", block_on(next().fork()));
    let mut last = next();
    let mut results: Vec<_> = block_on(last.generate(endless(greedy())).take(3).collect());
    assert_eq!(results.len(), 1, "one error, then the stream ends");
    assert_lost("generate", results.pop().unwrap());
    for _ in 0..3 {
        assert_lost("again", block_on(last.decode(1)));
    }
}

#[test]
fn between_two_tokens() {
    let device = own();
    let model = open(&device);
    let mut session = prompted(&model, &[1, 2, 3]);
    let mut tokens = pin!(session.generate(endless(greedy())));
    for _ in 0..4 {
        block_on(tokens.next()).unwrap().unwrap();
    }
    destroy(&device);
    assert_lost("next token", block_on(tokens.next()).unwrap());
    assert!(block_on(tokens.next()).is_none(), "the stream has ended");
}

#[test]
fn while_a_token_is_awaited() {
    let device = own();
    let model = open(&device);
    let mut session = prompted(&model, &[1, 2, 3]);
    let mut tokens = pin!(session.generate(endless(greedy())));
    block_on(tokens.next()).unwrap().unwrap();
    let mut next = tokens.next();
    let poll = pin!(&mut next).poll(&mut Context::from_waker(noop_waker_ref()));
    assert!(matches!(poll, Poll::Pending), "a GPU has to be waited for");
    destroy(&device);
    assert_lost("awaited token", block_on(next).unwrap());
}

#[test]
fn by_another_thread_at_any_moment() {
    for delay in [0, 3, 20, 60] {
        let device = own();
        let model = open(&device);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut session = prompted(&model, &[1, 2, 3]);
            sender.send(None).unwrap();
            // Endless: only the loss ends it.
            let last = block_on(session.generate(endless(greedy())).fold(None, |_, token| async { Some(token) }));
            sender.send(last).unwrap();
        });
        let patience = Duration::from_secs(60);
        assert!(receiver.recv_timeout(patience).expect("the session starts").is_none());
        std::thread::sleep(Duration::from_millis(delay));
        destroy(&device);
        let last = receiver.recv_timeout(patience).expect("the generation ends");
        assert_lost(&format!("after {delay} ms"), last.unwrap());
    }
}

#[test]
fn what_was_saved_goes_on_elsewhere_and_other_devices_do_not_notice() {
    let device = own();
    let model = open(&device);
    let healthy = open(&device::gpu());
    let mut witness = prompted(&healthy, &[4, 5]);
    let mut session = prompted(&model, &[1, 2, 3]);
    let saved = save(&mut session);
    destroy(&device);
    assert_lost("decode", block_on(session.decode(1)));
    let expected = ids_of(&take(&mut prompted(&healthy, &[1, 2, 3]), &endless(greedy()), 5));
    assert_eq!(ids_of(&take(&mut restored(&healthy, &saved), &endless(greedy()), 5)), expected);
    assert_eq!(take(&mut witness, &endless(greedy()), 5).len(), 5);
}
