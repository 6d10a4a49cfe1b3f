//! The golden files, on every device: logits, masks, alphas, greedy continuation, splits, cached decode.

use futures::StreamExt;
use pollster::block_on;
use taipan::run::dense::Twins;
use taipan::{Config, Device, GenerateOptions, LoadOptions, Model, Sampling, Session, SessionOptions, Weights};
use taipan_tests::compare::assert_close;
use taipan_tests::device;
use taipan_tests::golden::{Case, Prompt, cases, fresh_small_cases, small_cases};
use taipan_tests::oracle::Oracle;

/// Prefill in parts or then decode, against one prefill (spec §6).
const SPLIT: f64 = 1e-3;

fn open(case: &Case, device: &Device, options: LoadOptions) -> Model {
    block_on(Model::open(&case.dir, device, options)).unwrap()
}

fn session(case: &Case, model: &Model) -> Session {
    model.session(SessionOptions { attention_bound: case.bound, ..SessionOptions::default() }).unwrap()
}

fn greedy(session: &mut Session, n: usize) -> Vec<u32> {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let options = GenerateOptions { max_tokens: Some(n), sampling, ignore_eos: true, ..GenerateOptions::default() };
    block_on(session.generate(options).map(|t| t.unwrap().id).collect())
}

fn all_logits(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    let mut rows = Vec::new();
    block_on(session.prefill_rows(ids, |r| {
        rows.extend_from_slice(r.logits);
        Ok(())
    }))
    .unwrap();
    rows
}

fn check_prompt(what: &str, case: &Case, model: &Model, p: &Prompt, tolerance: f64) {
    let mut s = session(case, model);
    let logits = all_logits(&mut s, &p.ids);
    assert_eq!(s.gates().mask.concat(), p.mask, "{what}: masks");
    if !p.alpha.is_empty() {
        assert_close(&format!("{what}: alpha"), &s.gates().alpha.concat(), &p.alpha, tolerance);
    }
    assert_close(&format!("{what}: logits"), &logits, &p.logits, tolerance);
    // The files keep every margin of a gate and of the two best logits above 0.02, so no step is near a tie (spec §6).
    assert_eq!(greedy(&mut s, p.greedy.len()), p.greedy, "{what}: greedy continuation");
    // Token by token through the fused decode step.
    let mut s = session(case, model);
    for (t, id) in p.ids.iter().enumerate() {
        let row = block_on(s.decode(*id)).unwrap();
        let vocab = row.len();
        assert_close(&format!("{what}: decode {t}"), &row, &p.logits[t * vocab..(t + 1) * vocab], tolerance);
    }
}

fn check_case(set: &str, case: &Case) {
    for (name, device, tolerance) in device::all() {
        let model = open(case, &device, LoadOptions::default());
        for p in &case.prompts {
            let what = format!("{set} {} [{}] on {name}", case.name, p.ids.len());
            check_prompt(&what, case, &model, p, tolerance);
        }
    }
}

#[test]
fn every_case_on_every_device() {
    for seed in [1, 2] {
        for case in cases(seed) {
            check_case(&format!("seed {seed}"), &case);
        }
    }
}

#[test]
fn the_small_cases_are_what_the_script_writes_and_hold_on_every_device() {
    let (kept, fresh) = (small_cases(), fresh_small_cases());
    assert!(kept.len() >= 9 && kept.len() == fresh.len(), "{} cases, {} made now", kept.len(), fresh.len());
    for (case, now) in kept.iter().zip(&fresh) {
        check_case("small", case);
        let read = |case: &Case, file: &str| std::fs::read(case.dir.join(file)).unwrap();
        for file in ["config.json", "model.safetensors"] {
            assert!(read(case, file) == read(now, file), "{}: {file}; cargo xtask golden --small makes it", case.name);
        }
        assert_eq!(
            (&case.name, case.bound_numbers, case.prompts.len()),
            (&now.name, now.bound_numbers, now.prompts.len())
        );
        for (p, now) in case.prompts.iter().zip(&now.prompts) {
            assert_eq!((&p.ids, &p.mask, &p.greedy), (&now.ids, &now.mask, &now.greedy), "{}", case.name);
            assert_close(&case.name, &p.logits, &now.logits, 1e-6); // sums of another computer
        }
    }
}

/// Plain loops and f64 sums against golden files (spec §6).
const PLAIN: f64 = 1e-4;

#[test]
fn the_plain_reference_is_closer_than_any_device() {
    for seed in [1, 2, 3] {
        for case in cases(seed) {
            let config = Config::from_json(&std::fs::read(case.dir.join("config.json")).unwrap()).unwrap();
            let weights = Weights::open(&case.dir).unwrap();
            for p in &case.prompts {
                let what = format!("seed {seed} {} [{}]", case.name, p.ids.len());
                let start = || {
                    let mut oracle = Oracle::new(&config, &weights, 64, Twins::Plain);
                    if let Some((c, burst)) = case.bound_numbers {
                        oracle.bound(c, burst);
                    }
                    oracle
                };
                let (logits, masks) = start().prefill(&p.ids);
                assert_eq!(masks.concat(), p.mask, "{what}: masks");
                assert_close(&format!("{what}: prefill"), &logits, &p.logits, PLAIN);
                assert_close(&format!("{what}: decode"), &start().decode(&p.ids), &p.logits, PLAIN);
            }
        }
    }
}

#[test]
fn short_segments_and_chunks_change_nothing() {
    for case in cases(3) {
        // The base tier differs in what it may ask for, not in how a prompt is cut.
        for (name, device, tolerance) in device::all().into_iter().take(2) {
            for (segment, chunk) in [(1, 1), (7, 3), (33, 16)] {
                let options = LoadOptions { segment: Some(segment), chunk: Some(chunk), ..LoadOptions::default() };
                let model = open(&case, &device, options);
                for p in case.prompts.iter().filter(|p| p.ids.len() <= 16 * segment) {
                    let mut s = session(&case, &model);
                    let what = format!("{} [{}] on {name}, segment {segment}, chunk {chunk}", case.name, p.ids.len());
                    assert_close(&what, &all_logits(&mut s, &p.ids), &p.logits, tolerance);
                }
            }
        }
    }
}

#[test]
fn a_prompt_split_anywhere_gives_the_same() {
    for case in cases(3) {
        for (name, device, _) in device::all().into_iter().take(2) {
            let model = open(&case, &device, LoadOptions::default());
            let p = case.prompts.last().unwrap();
            let mut whole = session(&case, &model);
            block_on(whole.prefill(&p.ids)).unwrap();
            let expected = block_on(whole.logits()).unwrap();
            for at in (1..p.ids.len()).step_by(2) {
                let mut s = session(&case, &model);
                block_on(s.prefill(&p.ids[..at])).unwrap();
                block_on(s.prefill(&p.ids[at..])).unwrap();
                let what = format!("{} [{}] on {name}, split at {at}", case.name, p.ids.len());
                assert_close(&what, &block_on(s.logits()).unwrap(), &expected, SPLIT);
            }
        }
    }
}
