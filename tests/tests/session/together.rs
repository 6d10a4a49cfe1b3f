//! Several sessions of one model: forks, turns in any order, threads.

use pollster::block_on;
use taipan::{GenerateOptions, Model, Session};
use taipan_tests::drive::{
    decode_logits, endless, greedy, ids_of, prefill_logits, prompted, random, restored, save, take, text_of,
};
use taipan_tests::saved::Saved;
use taipan_tests::tiny::{Numbers, ids};

use super::{devices, talker};

const STEPS: usize = 12;

/// Prompts and options of sessions that have nothing in common.
fn jobs() -> Vec<(Vec<u32>, GenerateOptions)> {
    let samplings = [greedy(), random(1), greedy(), random(2)];
    samplings.into_iter().zip(1..).map(|(s, i)| (ids(7 * i as usize, 22, i), endless(s))).collect()
}

/// What a session says alone: ids, text and final state.
fn alone(model: &Model, job: &(Vec<u32>, GenerateOptions)) -> (Vec<u32>, String, Saved) {
    let mut session = prompted(model, &job.0);
    let tokens = take(&mut session, &job.1, STEPS);
    (ids_of(&tokens), text_of(&tokens), save(&mut session))
}

#[test]
fn interleaved_step_by_step_is_as_alone() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let jobs = jobs();
        let expected: Vec<_> = jobs.iter().map(|job| alone(&model, job)).collect();
        let mut sessions: Vec<Session> = jobs.iter().map(|job| prompted(&model, &job.0)).collect();
        let mut said = vec![(Vec::new(), String::new()); jobs.len()];
        let mut numbers = Numbers { seed: 4, drawn: 0 };
        while let Some(i) = next_turn(&said, &mut numbers) {
            let tokens = take(&mut sessions[i], &jobs[i].1, 1);
            said[i].0.extend(ids_of(&tokens));
            said[i].1 += &text_of(&tokens);
        }
        for (i, (ids, text)) in said.into_iter().enumerate() {
            assert_eq!((ids, text, save(&mut sessions[i])), expected[i], "{name}, session {i}");
        }
    }
}

/// Any session that is not done.
fn next_turn(said: &[(Vec<u32>, String)], numbers: &mut Numbers) -> Option<usize> {
    let open: Vec<usize> = (0..said.len()).filter(|i| said[*i].0.len() < STEPS).collect();
    open.get(numbers.between(0.0, open.len() as f32) as usize).copied()
}

#[test]
fn any_order_is_as_alone() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let jobs = jobs();
        let expected: Vec<_> = jobs.iter().map(|job| alone(&model, job)).collect();
        for i in [2, 0, 3, 1, 1, 2] {
            assert_eq!(alone(&model, &jobs[i]), expected[i], "{name}, session {i}");
        }
    }
}

#[test]
fn prompts_in_turns_and_different_calls_between() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let prompt = ids(30, 22, 6);
        let expected = {
            let mut session = prompted(&model, &prompt[..11]);
            let rows = prefill_logits(&mut session, &prompt[11..]);
            (rows, decode_logits(&mut session, &[3, 4]), save(&mut session))
        };
        let mut other = prompted(&model, &ids(50, 22, 7));
        let mut session = prompted(&model, &prompt[..11]);
        let _ = take(&mut other, &endless(random(3)), 2);
        let rows = prefill_logits(&mut session, &prompt[11..]);
        let _ = prefill_logits(&mut other, &prompt);
        let first = decode_logits(&mut session, &[3]);
        block_on(other.prefill(&prompt)).unwrap();
        let logits = [first, decode_logits(&mut session, &[4])].concat();
        assert_eq!((rows, logits, save(&mut session)), expected, "{name}");
    }
}

#[test]
fn a_fork_and_its_original_go_their_own_ways() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        for made in [0, 3] {
            let mut original = prompted(&model, &ids(13, 22, 2));
            let _ = take(&mut original, &endless(greedy()), made);
            let bytes = save(&mut original);
            let mut fork = block_on(original.fork()).unwrap();
            assert_eq!(save(&mut fork), bytes, "{name}: the same state");

            block_on(fork.prefill(&ids(40, 22, 3))).unwrap();
            let _ = take(&mut fork, &endless(random(3)), 4);
            let fork_state = save(&mut fork);
            assert_ne!(fork_state, bytes, "{name}");
            assert_eq!(save(&mut original), bytes, "{name}: the original has not moved");

            let mut reference = restored(&model, &bytes);
            let expected = ids_of(&take(&mut reference, &endless(random(9)), 8));
            let tokens = ids_of(&take(&mut original, &endless(random(9)), 8));
            assert_eq!(tokens, expected, "{name}: the original goes on");
            assert_eq!(save(&mut fork), fork_state, "{name}: the fork has not moved");
            drop(original);
            assert_eq!(ids_of(&take(&mut fork, &endless(greedy()), 5)).len(), 5, "{name}: the fork lives on");
        }
    }
}

#[test]
fn sessions_of_one_model_on_threads() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let jobs = jobs();
        let expected: Vec<_> = jobs.iter().map(|job| alone(&model, job)).collect();
        std::thread::scope(|scope| {
            let model = &model;
            let run = |job| scope.spawn(move || (0..4).map(|_| alone(model, job)).collect::<Vec<_>>());
            let threads: Vec<_> = jobs.iter().map(run).collect();
            for (i, thread) in threads.into_iter().enumerate() {
                let said = thread.join().unwrap();
                assert!(said.iter().all(|s| *s == expected[i]), "{name}, session {i}");
            }
        });
    }
}

#[test]
fn rows_of_two_sessions_on_threads() {
    for (name, device) in devices() {
        let model = talker().open(&device);
        let rows = |seed| {
            let mut session = model.session(taipan::SessionOptions::default()).unwrap();
            let logits = prefill_logits(&mut session, &ids(60, 22, seed));
            (logits, session.gates().clone())
        };
        let expected = [rows(1), rows(2)];
        std::thread::scope(|scope| {
            let rows = &rows;
            let run = |seed| scope.spawn(move || (0..6).map(|_| rows(seed)).collect::<Vec<_>>());
            for (i, thread) in [run(1), run(2)].into_iter().enumerate() {
                assert!(thread.join().unwrap().iter().all(|r| *r == expected[i]), "{name}, session {i}");
            }
        });
    }
}
