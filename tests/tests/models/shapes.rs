//! Every layout of layers and every odd size.

use pollster::block_on;
use taipan::{LoadOptions, Model, SessionOptions};
use taipan_tests::compare::assert_close;
use taipan_tests::device;
use taipan_tests::drive::{decode_logits, endless, greedy, ids_of, prefill_logits, take};
use taipan_tests::greedy::sure_steps;
use taipan_tests::tiny::{Gate, Tiny, ids};

use super::{CHUNKED, DEVICES, SPLIT, Subject, run, selected};

const TOKENS: usize = 41;

/// The whole check of one model: CPU against itself and against a GPU.
fn check(what: &str, tiny: &Tiny) -> Subject {
    let subject = Subject::new(tiny, TOKENS, LoadOptions::default);
    check_phases(&format!("{what}, cpu"), &subject, &subject.cpu, &subject.logits);
    let gpu = subject.tiny.open(&device::gpu());
    let (logits, gates) = run(&gpu, &subject.prompt);
    assert_eq!(gates.mask, subject.gates.mask, "{what}: masks on the GPU");
    if !gates.alpha.is_empty() {
        let (alpha, expected) = (gates.alpha.concat(), subject.gates.alpha.concat());
        assert_close(&format!("{what}: alpha on the GPU"), &alpha, &expected, DEVICES);
    }
    assert_close(&format!("{what}: logits on the GPU"), &logits, &subject.logits, DEVICES);
    let recurrent = check_phases(&format!("{what}, gpu"), &subject, &gpu, &logits);
    // Segments that do not divide the prompt, chunks that do not divide the segment.
    let options = LoadOptions { segment: Some(11), chunk: Some(4), ..LoadOptions::default() };
    let (logits, gates) = run(&subject.tiny.open_with(&device::gpu(), options), &subject.prompt);
    assert_eq!(gates.mask, subject.gates.mask, "{what}: masks in segments on the GPU");
    assert_close(&format!("{what}: segments on the GPU"), &logits, &recurrent, CHUNKED);
    subject
}

/// Token by token, and a prompt continued token by token, against one prefill on the same device. Returns the logits of
/// the recurrent form.
fn check_phases(what: &str, subject: &Subject, model: &Model, prefilled: &[f32]) -> Vec<f32> {
    let (prompt, vocab) = (&subject.prompt, subject.tiny.parsed().vocab_size);
    let mut session = model.session(SessionOptions::default()).unwrap();
    let decoded = decode_logits(&mut session, prompt);
    assert_close(&format!("{what}: decode"), &decoded, prefilled, CHUNKED);
    let counts: Vec<u64> = subject.gates.mask.iter().map(|m| m.iter().map(|m| u64::from(*m)).sum()).collect();
    assert_eq!(selected(&mut session), counts, "{what}: selected in decode");
    for at in [1, 17, TOKENS - 1] {
        let mut session = model.session(SessionOptions::default()).unwrap();
        block_on(session.prefill(&prompt[..at])).unwrap();
        let rest = decode_logits(&mut session, &prompt[at..]);
        assert_close(&format!("{what}: prefill of {at}, then decode"), &rest, &prefilled[at * vocab..], SPLIT);
    }
    decoded
}

#[test]
fn layouts() {
    for layers in ["m", "s", "mmm", "sm", "ms", "ss", "smsm"] {
        let subject = check(layers, &Tiny::new(layers).seed(100));
        let shares = subject.shares();
        assert!(shares.iter().all(|s| (0.1..0.9).contains(s)), "{layers}: the gates mix, {shares:?}");
    }
}

#[test]
fn all_or_none_selected() {
    for (gate, share) in [(Gate::Always, 1.0), (Gate::Never, 0.0)] {
        let subject = check(&format!("{gate:?}"), &Tiny::new("msm").gate(gate));
        assert_eq!(subject.shares(), [share]);
    }
}

#[test]
fn windows() {
    // The prompt has 41 tokens.
    for window in [1, 2, 7, 16, 40, 41, 42, 100] {
        check(
            &format!("window {window}"),
            &Tiny::new("sm").gate(Gate::Always).with("selective_attention.window", window),
        );
    }
}

#[test]
fn heads() {
    for (heads, kv, dim) in [(4, 4, 8), (4, 2, 8), (4, 1, 12), (3, 1, 10), (6, 3, 5), (1, 1, 64), (2, 2, 1)] {
        let tiny = Tiny::new("ms")
            .gate(Gate::Always)
            .with("selective_attention.num_heads", heads)
            .with("selective_attention.num_key_value_heads", kv)
            .with("selective_attention.head_dim", dim);
        check(&format!("{heads} heads, {kv} for keys, of {dim}"), &tiny);
    }
}

#[test]
fn rotary() {
    for (theta, dim, window) in [(10_000.0, 16, 8), (500_000.0, 10, 100), (100.0, 2, 16)] {
        let tiny = Tiny::new("sms")
            .gate(Gate::Always)
            .with("selective_attention.rope_theta", theta)
            .with("selective_attention.head_dim", dim)
            .with("selective_attention.window", window);
        check(&format!("theta {theta}, heads of {dim}, window {window}"), &tiny);
    }
}

#[test]
fn groups() {
    for (groups, head_dim) in [(1, 16), (2, 16), (4, 16), (8, 8), (16, 4), (64, 1), (1, 64)] {
        let tiny = Tiny::new("mm").with("mamba2.n_groups", groups).with("mamba2.head_dim", head_dim);
        check(&format!("{groups} groups, heads of {head_dim}"), &tiny);
    }
}

#[test]
fn odd_sizes() {
    for (vocab, hidden, expand, head_dim, groups, d_state, d_conv, mlp) in [
        (97, 40, 2, 20, 1, 24, 2, 53),
        (97, 40, 2, 20, 2, 24, 3, 108),
        (131, 40, 2, 20, 4, 5, 4, 1),
        (1, 8, 1, 8, 1, 1, 2, 3),
        (300, 33, 1, 11, 3, 7, 8, 65),
        (64, 7, 3, 3, 7, 130, 5, 9),
        (5, 130, 2, 65, 2, 17, 4, 257),
    ] {
        let tiny = Tiny::new("mms")
            .with("vocab_size", vocab)
            .with("hidden_size", hidden)
            .with("mamba2.expand", expand)
            .with("mamba2.head_dim", head_dim)
            .with("mamba2.n_groups", groups)
            .with("mamba2.d_state", d_state)
            .with("mamba2.d_conv", d_conv)
            .with("selective_attention.intermediate_size", mlp);
        check(&format!("hidden {hidden}, heads of {head_dim}, state {d_state}, taps {d_conv}"), &tiny);
    }
}

#[test]
fn switches_of_the_config() {
    let tiny = || Tiny::new("ms");
    for (what, tiny) in [
        ("proj_bias", tiny().with("mamba2.proj_bias", true)),
        ("no conv_bias", tiny().with("mamba2.conv_bias", false)),
        ("untied", tiny().with("tie_word_embeddings", false)),
        ("epsilons", tiny().with("rms_norm_eps", 0.1).with("mamba2.norm_eps", 0.3)),
        ("a low limit of the step", tiny().with("mamba2.time_step_limit", serde_json::json!([0.5, null]))),
        ("a high limit of the step", tiny().with("mamba2.time_step_limit", serde_json::json!([0.0, 0.05]))),
        ("a fixed step", tiny().with("mamba2.time_step_limit", serde_json::json!([0.1, 0.1]))),
    ] {
        let plain = Subject::new(&Tiny::new("ms"), TOKENS, LoadOptions::default);
        let subject = check(what, &tiny);
        assert_ne!(subject.logits, plain.logits, "{what} makes a difference");
    }
}

#[test]
fn long_prompts_in_many_segments() {
    let tiny = Tiny::new("msm").with("selective_attention.window", 50);
    let subject = Subject::new(&tiny, 700, LoadOptions::default);
    for device in [taipan::Device::cpu(), device::gpu()] {
        let mut session = subject.tiny.open(&device).session(SessionOptions::default()).unwrap();
        let recurrent = decode_logits(&mut session, &subject.prompt);
        for (segment, chunk) in [(64, 64), (65, 64), (100, 7), (512, 64), (1000, 1)] {
            let options = LoadOptions { segment: Some(segment), chunk: Some(chunk), ..LoadOptions::default() };
            let what = format!("segments of {segment}, chunks of {chunk} on {}", device.description());
            let (logits, gates) = run(&subject.tiny.open_with(&device, options), &subject.prompt);
            assert_eq!(gates.mask, subject.gates.mask, "{what}");
            assert_close(&what, &logits, &recurrent, CHUNKED);
            assert_close(&format!("{what}, against the CPU"), &logits, &subject.logits, DEVICES);
        }
    }
}

#[test]
fn one_token_prompts() {
    for layers in ["m", "s", "msm"] {
        let subject = Subject::new(&Tiny::new(layers), 1, LoadOptions::default);
        let gpu = subject.tiny.open(&device::gpu());
        let (logits, gates) = run(&gpu, &subject.prompt);
        assert_eq!(gates.mask, subject.gates.mask, "{layers}");
        assert_close(layers, &logits, &subject.logits, DEVICES);
        let mut first = gpu.session(SessionOptions::default()).unwrap();
        assert_close(layers, &decode_logits(&mut first, &subject.prompt), &subject.logits, DEVICES);
    }
}

#[test]
fn base_tier_agrees_too() {
    let tiny = Tiny::new("mmsm").with("mamba2.n_groups", 2).with("selective_attention.num_key_value_heads", 1);
    let subject = Subject::new(&tiny, TOKENS, LoadOptions::default);
    let base = subject.tiny.open(&device::base_tier());
    let (logits, gates) = run(&base, &subject.prompt);
    assert_eq!(gates.mask, subject.gates.mask);
    assert_close("base tier", &logits, &subject.logits, DEVICES);
    check_phases("base tier", &subject, &base, &logits);
}

#[test]
fn greedy_text_is_the_same_on_all_devices_up_to_a_near_tie() {
    let mut compared = 0;
    for seed in 0..6 {
        let tiny = Tiny::new("msms").seed(900 + seed);
        let models = [taipan::Device::cpu(), device::gpu(), device::base_tier()].map(|d| tiny.open(&d));
        let prompt = ids(10, 48, seed);
        let texts = models.each_ref().map(|model| {
            let mut session = model.session(SessionOptions::default()).unwrap();
            block_on(session.prefill(&prompt)).unwrap();
            ids_of(&take(&mut session, &endless(greedy()), 30))
        });
        // Up to the first step that rounding may decide, as the reference sees it.
        let mut session = models[0].session(SessionOptions::default()).unwrap();
        let rows = prefill_logits(&mut session, &[&prompt[..], &texts[0]].concat());
        let sure = sure_steps(&rows, 48, &session.gates().alpha, prompt.len());
        compared += sure;
        for (text, name) in texts[1..].iter().zip(["gpu", "base tier"]) {
            assert_eq!(text[..sure], texts[0][..sure], "seed {seed} on {name}, {sure} steps");
        }
    }
    assert!(compared > 60, "only {compared} steps were sure enough to compare");
}
