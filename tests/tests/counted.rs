//! What a decoded token costs, and what a session holds, by the device's own counters. Each test opens a device of its own:
//! counters are those of everybody who uses it.

use std::pin::pin;

use futures::StreamExt;
use pollster::block_on;
use taipan::description::{Description, Shape};
use taipan::layers::Programs;
use taipan::{Device, GpuRequest, Model, Session, SessionOptions};
use taipan_gpu::{Counts, Gpu};
use taipan_tests::drive::{endless, greedy, random, save, take};
use taipan_tests::tiny::{Tiny, ids};

fn device() -> Device {
    block_on(Device::gpu(&GpuRequest::default())).expect("a GPU test needs an adapter, lavapipe will do")
}

/// Dispatches of one decoded token, from the lists of calls.
fn listed(tiny: &Tiny) -> u64 {
    let d = Description::new(&tiny.parsed(), Shape { segment: 512, chunk: 64, logit_rows: 512 });
    let programs = Programs::new(&d);
    (programs.decode.len() + programs.sample.len()) as u64
}

fn gpu(model: &Model) -> &Gpu {
    model.device().as_gpu().expect("it is a GPU")
}

fn prompted(model: &Model) -> Session {
    let mut session = model.session(SessionOptions::default()).unwrap();
    block_on(session.prefill(&ids(9, 48, 1))).unwrap();
    session
}

#[test]
fn a_decoded_token_is_one_submission_of_the_listed_dispatches() {
    for layers in ["m", "msms"] {
        let tiny = Tiny::new(layers);
        let model = tiny.open(&device());
        for sampling in [greedy(), random(3)] {
            let mut session = prompted(&model);
            assert_eq!(block_on(session.stats()).unwrap().decode_submits, 0, "{layers}: nothing decoded yet");
            {
                let mut tokens = pin!(session.generate(endless(sampling)));
                // The first token is sampled from the prompt's logits; from the second on each goes through the layers.
                block_on(tokens.next()).unwrap().unwrap();
                for n in 1..20 {
                    let before = gpu(&model).counts();
                    block_on(tokens.next()).unwrap().unwrap();
                    let cost = gpu(&model).counts().since(before);
                    assert_eq!(cost, Counts { submits: 1, dispatches: listed(&tiny) }, "{layers}: token {n}");
                }
            }
            let stats = block_on(session.stats()).unwrap();
            assert_eq!((stats.decode_dispatches as u64, stats.decode_submits), (listed(&tiny), 1), "{layers}: stats");
        }
    }
}

#[test]
fn sessions_that_take_turns_are_not_counted_as_one() {
    let tiny = Tiny::new("ms");
    let model = tiny.open(&device());
    let (mut a, mut b) = (prompted(&model), prompted(&model));
    {
        let options = || endless(greedy());
        let (a, b) = (a.generate(options()).take(8).collect(), b.generate(options()).take(8).collect());
        let (a, b): (Vec<_>, Vec<_>) = block_on(futures::future::join(a, b));
        assert!(a.iter().chain(&b).all(Result::is_ok));
    }
    for session in [&mut a, &mut b] {
        let stats = block_on(session.stats()).unwrap();
        assert_eq!((stats.decode_dispatches as u64, stats.decode_submits), (listed(&tiny), 1));
    }
}

#[test]
fn on_the_cpu_there_is_nothing_to_count() {
    let mut session = prompted(&Tiny::new("ms").open(&Device::cpu()));
    let _ = take(&mut session, &endless(greedy()), 5);
    let stats = block_on(session.stats()).unwrap();
    assert_eq!((stats.decode_dispatches, stats.decode_submits), (0, 0));
}

#[test]
fn a_session_allocates_its_state_and_never_more() {
    let model = Tiny::new("msm").open(&device());
    let before = gpu(&model).allocated();
    let mut session = prompted(&model);
    let held = gpu(&model).allocated();
    let bytes = block_on(session.stats()).unwrap().bytes;
    // What generating needs besides is the model's.
    assert_eq!(held - before, bytes.state, "{bytes:?}");
    assert!(bytes.scratch > bytes.state && before > bytes.weights + bytes.scratch, "{before} holds {bytes:?}");
    for round in 0..3 {
        block_on(session.prefill(&ids(700, 48, round))).unwrap();
        let _ = take(&mut session, &endless(random(round)), 20);
        let saved = save(&mut session);
        block_on(session.restore(&saved)).unwrap();
        assert_eq!(gpu(&model).allocated(), held, "round {round}");
        assert_eq!(block_on(session.stats()).unwrap().bytes, bytes, "round {round}");
    }
    let fork = block_on(session.fork()).unwrap();
    assert_eq!(gpu(&model).allocated() - held, held - before, "a fork is another session");
    drop((fork, session));
    assert_eq!(gpu(&model).allocated(), before);
}
