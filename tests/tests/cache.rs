//! Keys and values of full attention: they grow with the text, up to the session's context, and travel with its state.

use std::pin::pin;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::task::noop_waker_ref;
use pollster::block_on;
use taipan::{Device, Error, LoadOptions, Model, Session, SessionOptions};
use taipan_tests::device;
use taipan_tests::drive::{endless, greedy, ids_of, prompted, restored, take};
use taipan_tests::golden::{Case, Prompt, family_cases};

/// A model of the family with full attention, and a prompt of 200 tokens: several pages.
fn case() -> Case {
    family_cases().into_iter().find(|case| case.name == "bamba").unwrap()
}

fn longest(case: &Case) -> &Prompt {
    case.prompts.iter().max_by_key(|p| p.ids.len()).unwrap()
}

fn open(case: &Case, device: &Device) -> Model {
    let options = LoadOptions { segment: Some(48), ..LoadOptions::default() };
    block_on(Model::open(&case.dir, device, options)).unwrap()
}

fn continued(session: &mut Session, n: usize) -> Vec<u32> {
    ids_of(&take(session, &endless(greedy()), n))
}

fn state_bytes(session: &mut Session) -> u64 {
    block_on(session.stats()).unwrap().bytes.state
}

#[test]
fn memory_grows_with_the_text_in_steps() {
    let case = case();
    let ids = &longest(&case).ids;
    for device in [Device::cpu(), device::gpu()] {
        let model = open(&case, &device);
        let mut session = model.session(SessionOptions::default()).unwrap();
        let mut sizes = vec![state_bytes(&mut session)];
        for id in ids {
            block_on(session.decode(*id)).unwrap();
            let bytes = state_bytes(&mut session);
            if bytes != *sizes.last().unwrap() {
                sizes.push(bytes);
            }
        }
        assert!(sizes.is_sorted() && (3..8).contains(&sizes.len()), "{}: {sizes:?}", device.description());
        // Two layers of two heads of 16 channels, keys and values: 512 bytes a token.
        let grown = sizes.last().unwrap() - sizes[0];
        assert!((136 * 512..=256 * 512).contains(&grown), "{grown} bytes for 200 tokens instead of 64");
    }
}

#[test]
fn a_saved_text_longer_than_a_page_goes_on_anywhere() {
    let case = case();
    let p = longest(&case);
    let models = [Device::cpu(), device::gpu()].map(|device| open(&case, &device));
    for model in &models {
        let mut session = prompted(model, &p.ids);
        let bytes = block_on(session.save()).unwrap();
        for other in &models {
            assert_eq!(continued(&mut restored(other, &bytes), p.greedy.len()), p.greedy);
        }
        // Into a session that has more room already.
        let mut longer = prompted(model, &[&p.ids[..], &p.ids[..]].concat());
        block_on(longer.restore(&bytes)).unwrap();
        assert_eq!(continued(&mut longer, p.greedy.len()), p.greedy);
        let mut fork = block_on(session.fork()).unwrap();
        assert_eq!(continued(&mut session, p.greedy.len()), p.greedy);
        assert_eq!(continued(&mut fork, p.greedy.len()), p.greedy);
        // Every token is there once: so much longer is the form of a text that is longer.
        let mut short = prompted(model, &p.ids[..100]);
        assert!(bytes.len() - block_on(short.save()).unwrap().len() >= 100 * 512);
    }
}

#[test]
fn a_context_is_a_limit() {
    let case = case();
    let ids = &longest(&case).ids;
    for device in [Device::cpu(), device::gpu()] {
        let model = open(&case, &device);
        let options = SessionOptions { context: Some(50), ..SessionOptions::default() };
        let full = |error: Error| match error {
            Error::ContextFull { tokens, context } => (tokens, context),
            other => panic!("{other:?}"),
        };
        let mut session = model.session(options.clone()).unwrap();
        // Whole segments are consumed, as with any error in the middle of a prompt.
        assert_eq!(full(block_on(session.prefill(&ids[..51])).unwrap_err()), (51, 50));
        assert_eq!(session.position(), 48);
        block_on(session.decode(ids[48])).unwrap();
        block_on(session.decode(ids[49])).unwrap();
        assert_eq!(full(block_on(session.decode(ids[50])).unwrap_err()), (51, 50));
        assert_eq!(session.position(), 50);
        let long = block_on(prompted(&model, &ids[..60]).save()).unwrap();
        assert_eq!(full(block_on(session.restore(&long)).unwrap_err()), (60, 50));
        assert_eq!(session.position(), 50);
        assert_eq!(block_on(session.logits()).unwrap().len(), 256);
    }
}

/// A GPU is a step ahead, and its cache may have grown for a token that nobody took.
#[test]
fn a_token_given_up_while_the_cache_grows_was_never_made() {
    let case = case();
    let ids = &longest(&case).ids[..58];
    let model = open(&case, &device::gpu());
    let mut delivered = prompted(&model, ids);
    let mut whole = Vec::new();
    for n in [0, 3, 4, 5, 6, 7, 8, 40] {
        whole.extend(continued(&mut delivered, n - whole.len()));
        let mut session = prompted(&model, ids);
        {
            let mut tokens = pin!(session.generate(endless(greedy())));
            for id in &whole {
                assert_eq!(block_on(tokens.next()).unwrap().unwrap().id, *id);
            }
            let next = pin!(tokens.next()).poll(&mut Context::from_waker(noop_waker_ref()));
            assert!(matches!(next, Poll::Pending), "a GPU has to be waited for");
        }
        let (found, expected) = (block_on(session.save()).unwrap(), block_on(delivered.save()).unwrap());
        assert!(found == expected, "given up after {n}");
    }
}

#[test]
fn every_token_for_which_there_is_room_is_delivered() {
    let case = case();
    let ids = &longest(&case).ids[..40];
    for device in [Device::cpu(), device::gpu()] {
        let model = open(&case, &device);
        let mut session = model.session(SessionOptions { context: Some(50), ..SessionOptions::default() }).unwrap();
        block_on(session.prefill(ids)).unwrap();
        let all: Vec<_> = block_on(session.generate(endless(greedy())).collect());
        // Ten tokens go through the layers; the one after them needs no room.
        assert_eq!(all.iter().filter(|token| token.is_ok()).count(), 11, "{}", device.description());
        assert!(matches!(all.last(), Some(Err(Error::ContextFull { tokens: 51, context: 50 }))));
    }
}

#[test]
fn a_model_of_constant_memory_has_no_context_to_fill() {
    let case = family_cases().into_iter().find(|case| case.name == "mamba2").unwrap();
    let model = open(&case, &Device::cpu());
    let mut session = model.session(SessionOptions { context: Some(2), ..SessionOptions::default() }).unwrap();
    let before = state_bytes(&mut session);
    block_on(session.prefill(&longest(&case).ids)).unwrap();
    assert_eq!(state_bytes(&mut session), before);
}
