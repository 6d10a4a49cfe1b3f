//! What a caller or a checkpoint can get wrong: each is a typed error with its facts, and nothing has happened.

use futures::StreamExt;
use pollster::block_on;
use taipan::{
    AttentionBound, Backends, Device, Error, Finish, GenerateOptions, GpuRequest, LoadOptions, Model, Sampling, Select,
    SessionOptions, WeightDtype,
};
use taipan_tests::device;
use taipan_tests::drive::{endless, greedy, prompted, save, take};
use taipan_tests::tiny::Tiny;

fn devices() -> [(&'static str, Device); 2] {
    [("cpu", Device::cpu()), ("gpu", device::gpu())]
}

fn models() -> [(&'static str, Model); 2] {
    devices().map(|(name, device)| (name, Tiny::new("ms").open(&device)))
}

/// The error of an opening that must fail.
fn refused(tiny: &Tiny, device: &Device, options: LoadOptions) -> Error {
    tiny.try_open(device, options).err().expect("the model is refused")
}

#[test]
fn an_id_outside_the_vocabulary() {
    for (name, model) in models() {
        let mut session = prompted(&model, &[1, 2]);
        let before = save(&mut session);
        for id in [48, 49, u32::MAX] {
            let errors = [
                block_on(session.prefill(&[3, id, 4])).unwrap_err(),
                block_on(session.prefill_iter([id])).unwrap_err(),
                block_on(session.prefill_rows(&[3, id], |_| panic!("nothing runs"))).unwrap_err(),
                block_on(session.decode(id)).unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, Error::TokenOutOfRange { id: i, vocab: 48 } if i == id), "{name}: {error}");
                assert_eq!(error.code(), "token-out-of-range");
            }
        }
        assert_eq!(save(&mut session), before, "{name}");
        block_on(session.prefill(&[47])).unwrap();
    }
}

#[test]
fn a_bad_id_far_down_an_iterator_stops_before_its_segment() {
    for (name, device) in devices() {
        let model = Tiny::new("ms").open_with(&device, LoadOptions { segment: Some(8), ..LoadOptions::default() });
        let mut session = model.session(SessionOptions::default()).unwrap();
        let error = block_on(session.prefill_iter((0..30).map(|i| if i == 20 { 48 } else { i }))).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 48, .. }), "{name}: {error}");
        assert_eq!(session.position(), 16, "{name}");
        let ids: Vec<u32> = (0..16).collect();
        assert_eq!(save(&mut session), save(&mut prompted(&model, &ids)), "{name}");
    }
}

#[test]
fn an_empty_prompt() {
    for (name, model) in models() {
        let mut session = model.session(SessionOptions::default()).unwrap();
        let before = save(&mut session);
        let errors = [
            block_on(session.prefill(&[])).unwrap_err(),
            block_on(session.prefill_iter([])).unwrap_err(),
            block_on(session.prefill_rows(&[], |_| panic!("nothing runs"))).unwrap_err(),
            block_on(session.logits()).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::EmptyPrompt), "{name}: {error}");
        }
        let results: Vec<_> = block_on(session.generate(endless(greedy())).take(3).collect());
        assert!(matches!(results[..], [Err(Error::EmptyPrompt)]), "{name}: one error, then the stream ends");
        assert_eq!(save(&mut session), before, "{name}");
    }
}

#[test]
fn options_out_of_range() {
    let s = Sampling::default;
    let bad: Vec<(&str, Sampling)> = vec![
        ("temperature", Sampling { temperature: f32::NAN, ..s() }),
        ("temperature", Sampling { temperature: f32::INFINITY, ..s() }),
        ("repeat penalty", Sampling { repeat_penalty: 0.0, ..s() }),
        ("repeat penalty", Sampling { repeat_penalty: -1.0, ..s() }),
        ("repeat penalty", Sampling { repeat_penalty: f32::NAN, ..s() }),
        ("repeat penalty", Sampling { repeat_penalty: f32::INFINITY, ..s() }),
        ("repeat last n", Sampling { repeat_last_n: 1025, ..s() }),
        ("repeat last n", Sampling { repeat_last_n: u32::MAX, ..s() }),
        ("top-p or min-p", Sampling { top_p: f32::NAN, ..s() }),
        ("top-p or min-p", Sampling { min_p: f32::NAN, ..s() }),
    ];
    let mut all: Vec<_> = bad.into_iter().map(|(name, sampling)| (name, endless(sampling))).collect();
    all.push(("max tokens", GenerateOptions { max_tokens: Some(0), ..endless(s()) }));
    for (device, model) in models() {
        let mut session = prompted(&model, &[1, 2]);
        let before = save(&mut session);
        for (expected, options) in &all {
            let results: Vec<_> = block_on(session.generate(options.clone()).take(3).collect());
            let [Err(Error::InvalidOption { name, value, allowed })] = &results[..] else {
                panic!("{device}, {options:?}: {results:?}")
            };
            assert_eq!(name, expected, "{device}, {options:?}");
            assert!(!value.is_empty() && !allowed.is_empty());
        }
        assert_eq!(save(&mut session), before, "{device}");
    }
}

#[test]
fn extreme_options_that_are_allowed() {
    for (device, model) in models() {
        let plain = take(&mut prompted(&model, &[1, 2]), &endless(greedy()), 6);
        let extremes = [
            Sampling { top_k: 1, temperature: 5.0, ..Sampling::default() },
            Sampling { top_p: 0.0, temperature: 5.0, ..Sampling::default() },
            Sampling { top_p: -1.0, temperature: 5.0, ..Sampling::default() },
            Sampling { min_p: 1.0, temperature: 5.0, ..Sampling::default() },
            Sampling { min_p: 7.0, temperature: 5.0, ..Sampling::default() },
            Sampling { temperature: -3.0, ..Sampling::default() },
            Sampling { temperature: f32::from_bits(1), ..Sampling::default() },
            Sampling { temperature: f32::MIN_POSITIVE, ..Sampling::default() },
            Sampling { temperature: 0.0, repeat_last_n: 1024, ..Sampling::default() },
        ];
        for sampling in extremes {
            let tokens = take(&mut prompted(&model, &[1, 2]), &endless(sampling.clone()), 6);
            assert_eq!(tokens, plain, "{device}, {sampling:?}: nothing but the best is left");
        }
        let all = Sampling { top_k: u32::MAX, top_p: 9.0, min_p: -1.0, temperature: 1e30, ..Sampling::default() };
        let ids: Vec<u32> = take(&mut prompted(&model, &[1, 2]), &endless(all), 200).iter().map(|t| t.id).collect();
        let different = (0..48).filter(|id| ids.contains(id)).count();
        assert!(different > 40, "{device}: {different} of 48 ids in 200 draws from a flat distribution");
    }
}

#[test]
fn sizes_and_bounds_out_of_range() {
    for (name, device) in devices() {
        for segment in [0, 4097, usize::MAX] {
            let error = refused(&Tiny::new("m"), &device, LoadOptions { segment: Some(segment), ..Default::default() });
            assert!(matches!(&error, Error::InvalidOption { name, .. } if name == "segment"), "{name}: {error}");
        }
        for chunk in [0, 65, usize::MAX] {
            let error = refused(&Tiny::new("m"), &device, LoadOptions { chunk: Some(chunk), ..Default::default() });
            assert!(matches!(&error, Error::InvalidOption { name, .. } if name == "chunk"), "{name}: {error}");
        }
    }
    for (c, burst) in [(0.0, 16.0), (1.01, 16.0), (f64::NAN, 16.0), (0.5, 1.99), (0.5, 32_767.5), (0.5, f64::INFINITY)]
    {
        let error = AttentionBound::new(c, burst).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{c}, {burst}: {error}");
    }
}

#[test]
fn a_text_for_a_model_without_a_tokenizer() {
    let model = Tiny::new("m").open(&Device::cpu());
    assert!(matches!(model.encode("text"), Err(Error::NoTokenizer)));
    // Ids still work, and have no text.
    let options = GenerateOptions { max_tokens: Some(2), stop: vec!["x".into()], ..endless(greedy()) };
    let tokens = take(&mut prompted(&model, &[1]), &options, 9);
    assert_eq!(tokens.iter().map(|t| &t.text[..]).collect::<Vec<_>>(), ["", ""]);
    assert_eq!(tokens[1].finish, Some(Finish::Limit));
}

/// Every layer kind, bias and head that a model can have.
fn everything() -> Tiny {
    Tiny::new("ms").with("mamba2.proj_bias", true).with("tie_word_embeddings", false)
}

#[test]
fn a_weight_that_is_not_a_number_is_found_in_every_tensor() {
    for (name, device) in devices() {
        for (i, (tensor, shape)) in everything().parsed().expected_tensors().into_iter().enumerate() {
            let last = shape.iter().product::<usize>() - 1;
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3];
            let at = [0, last / 2, last][i % 3];
            match refused(&everything().patch(&tensor, at, bad), &device, LoadOptions::default()) {
                Error::NotFinite { name: found, index, value, file } => {
                    assert_eq!((found, index), (tensor, at), "{name}");
                    assert_eq!(value.to_bits() & 0x7f80_0000, 0x7f80_0000, "{name}");
                    assert_eq!(file, "model.safetensors", "{name}");
                }
                error => panic!("{name}, {tensor}: {error}"),
            }
        }
    }
}

#[test]
fn a_weight_that_f16_cannot_hold_is_found_in_every_matrix() {
    let f16 = || LoadOptions { dtype: WeightDtype::F16, ..LoadOptions::default() };
    let is_matrix = |name: &str| {
        ["embedding", "in_proj.weight", "out_proj.weight", "lm_head", "attn.", "mlp."].iter().any(|n| name.contains(n))
    };
    let tensors = everything().parsed().expected_tensors();
    assert_eq!(tensors.iter().filter(|t| is_matrix(&t.0)).count(), 11);
    for (name, device) in devices() {
        for (tensor, shape) in &tensors {
            let last = shape.iter().product::<usize>() - 1;
            let large = everything().patch(tensor, last, -65_520.0);
            if !is_matrix(tensor) {
                large.try_open(&device, f16()).unwrap_or_else(|e| panic!("{name}, {tensor} stays f32: {e}"));
                continue;
            }
            match refused(&large, &device, f16()) {
                Error::Overflow { name: found, index, value, dtype: "f16", .. } => {
                    assert_eq!((&found, index, value), (tensor, last, -65_520.0), "{name}");
                }
                error => panic!("{name}, {tensor}: {error}"),
            }
            // The largest number that rounds to one of f16.
            let fits = everything().patch(tensor, last, -65_519.0);
            fits.try_open(&device, f16()).unwrap_or_else(|e| panic!("{name}, {tensor}: {e}"));
        }
    }
}

#[test]
fn a_model_that_does_not_fit_the_device() {
    // A million keys and values of 64 floats are 256 MiB; WebGPU's default limit is 128.
    let tiny = Tiny::new("ms").with("selective_attention.window", 1 << 20);
    match refused(&tiny, &device::base_tier(), LoadOptions::default()) {
        Error::LimitTooSmall { limit, needed, available, what } => {
            assert_eq!(limit, "maxStorageBufferBindingSize");
            assert_eq!((needed, available), (1 << 28, 1 << 27));
            assert!(what.contains("layers.1.window"), "{what}");
        }
        error => panic!("{error}"),
    }
    let half = Tiny::new("ms").with("selective_attention.window", 1 << 19);
    half.try_open(&device::base_tier(), LoadOptions::default()).expect("exactly the limit fits");
}

#[test]
fn no_adapter_fits_the_wish() {
    let default = GpuRequest::default;
    for (wanted, request) in [
        ("any", GpuRequest { backends: Backends::empty(), ..default() }),
        ("number 99", GpuRequest { select: Select::Index(99), ..default() }),
        ("\"no such GPU\"", GpuRequest { select: Select::Name("no such GPU".into()), ..default() }),
    ] {
        let none = request.backends.is_empty();
        match block_on(Device::gpu(&request)).unwrap_err() {
            Error::NoAdapter { wanted: w, found } => {
                assert_eq!(w, wanted);
                assert_eq!(found.is_empty(), none, "{found:?}");
            }
            error => panic!("{error}"),
        }
    }
    let (device, note) = block_on(Device::auto(Backends::empty()));
    assert!(device.is_cpu());
    assert!(note.unwrap().contains("no GPU"));
}
