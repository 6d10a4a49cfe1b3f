use super::*;

fn owned(text: &str) -> String {
    text.to_owned()
}

/// One error of each kind that has no test where it arises: code, message, hint.
fn samples() -> Vec<(Error, &'static str, &'static str, &'static str)> {
    vec![
        (
            Error::io("write", "out.txt", io::ErrorKind::StorageFull.into()),
            "io",
            "cannot write out.txt: no storage space",
            "free some space or write to another disk; nothing was left behind",
        ),
        (
            Error::NoWeights { dir: "model".into() },
            "weights-missing",
            "model: there is no model.safetensors, no model.safetensors.index.json and no pytorch_model.bin",
            "name a folder that holds config.json and safetensors weights, or a GGUF file; other formats must be converted first",
        ),
        (
            Error::SeveralFiles { dir: "model".into(), files: vec![owned("a.gguf"), owned("b\u{1b}.gguf")] },
            "weights-ambiguous",
            "model: there are several GGUF files: a.gguf, b\\u{1b}.gguf",
            "name one of these files instead of the folder",
        ),
        (
            Error::Overflow { name: owned("w"), file: owned("a.safetensors"), dtype: "f16", index: 3, value: 1e6 },
            "weights-value",
            "a.safetensors: tensor `w` holds 1000000 at element 3, which f16 cannot hold",
            "load with dtype f32, or with auto to keep the stored type",
        ),
        (
            Error::NoTokenizer,
            "no-tokenizer",
            "the model has no tokenizer.json",
            "give token ids, name one with --tokenizer, or put tokenizer.json beside config.json",
        ),
        (
            Error::TokenOutOfRange { id: 4096, vocab: 4096 },
            "token-out-of-range",
            "token id 4096 is outside the vocabulary of 4096",
            "were these ids made by another model's tokenizer?",
        ),
        (
            Error::EmptyPrompt,
            "empty-prompt",
            "the prompt is empty: there is no token to continue from",
            "give at least one token; no BOS is added for you",
        ),
        (
            Error::InvalidOption { name: owned("--temp"), value: owned("-1"), allowed: owned("0 or more") },
            "invalid-option",
            "option --temp: -1 is not allowed; allowed: 0 or more",
            "",
        ),
        (
            Error::NoAdapter { wanted: owned("a real GPU"), found: vec![owned("llvmpipe"), owned("WARP")] },
            "no-adapter",
            "no suitable GPU: asked for a real GPU; found llvmpipe, WARP",
            "`taipan devices` lists what is there; the CPU device always works",
        ),
        (
            Error::NoAdapter { wanted: owned("index 3"), found: vec![] },
            "no-adapter",
            "no suitable GPU: asked for index 3; found none",
            "`taipan devices` lists what is there; the CPU device always works",
        ),
        (
            Error::LimitTooSmall {
                limit: owned("maxBufferSize"),
                needed: 300,
                available: 200,
                what: owned("embedding.weight"),
            },
            "limit-too-small",
            "embedding.weight needs maxBufferSize of 300, the device offers 200",
            "try another adapter, or the CPU device",
        ),
        (
            Error::DeviceLost { reason: owned("driver reset") },
            "device-lost",
            "the GPU device was lost: driver reset",
            "open the model again; if it happens again, try another backend or the CPU device",
        ),
        (
            Error::OutOfMemory { what: owned("the window"), bytes: Some(1 << 20) },
            "out-of-memory",
            "out of memory while allocating 1048576 bytes: the window",
            "close other programs, or take a smaller model",
        ),
        (
            Error::from(taipan_gpu::GpuError::OutOfMemory { message: owned("no memory left") }),
            "out-of-memory",
            "out of memory: no memory left",
            "close other programs, load with dtype f16, or use the CPU device",
        ),
        (Error::from(taipan_gpu::GpuError::Driver { message: owned("refused") }), "gpu", "GPU error: refused", ""),
        (
            Error::io("write", "out", io::ErrorKind::IsADirectory.into()),
            "io",
            "cannot write out: is a directory",
            "this is a folder; name a file",
        ),
        (
            Error::io("open", "config.json", io::ErrorKind::NotADirectory.into()),
            "io",
            "cannot open config.json: not a directory",
            "name the folder that holds config.json and the weights, not a file",
        ),
        (
            Error::io("write", "file/out", io::ErrorKind::NotADirectory.into()),
            "io",
            "cannot write file/out: not a directory",
            "a part of the path is a file, not a folder",
        ),
        (
            Error::Tokenizer { file: Some(owned("m/tokenizer.json")), message: owned("EOF") },
            "tokenizer",
            "m/tokenizer.json: not a tokenizer: EOF",
            "tokenizer.json must be in the Hugging Face tokenizers format and belong to this model",
        ),
        (
            Error::ConfigMissing { file: owned("config.json"), key: owned("mamba2") }.in_dir("m".as_ref()),
            "config-invalid",
            "m/config.json: `mamba2` is missing",
            "correct config.json, or take the one published with the weights",
        ),
        (
            Error::SavedState { problem: SavedStateProblem::Version { found: 2, expected: 1 } },
            "saved-state",
            "saved state: format version 2, this build reads version 1",
            "make the state again with this version",
        ),
        (
            Error::SavedState { problem: SavedStateProblem::Checksum { expected: 1, found: 255 } },
            "saved-state",
            "saved state: checksum is 00000000000000ff, expected 0000000000000001: the bytes are damaged",
            "the bytes are not what `save` returned; make the state again",
        ),
    ]
}

#[test]
fn messages_codes_and_hints() {
    for (error, code, message, hint) in samples() {
        assert_eq!(error.to_string(), message);
        assert_eq!(error.code(), code);
        assert_eq!(error.hint().unwrap_or_default(), hint, "{message}");
    }
}

#[test]
fn causes_stay_attached() {
    use std::error::Error as _;
    let error = Error::io("read", "x", io::ErrorKind::NotFound.into());
    assert!(error.source().is_some_and(|s| s.is::<io::Error>()));
}

#[test]
fn an_error_can_cross_threads_and_is_small() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Error>();
    // Every `Result` of this crate carries it.
    assert!(size_of::<Error>() <= 128, "{}", size_of::<Error>());
}

#[test]
fn names_are_shown_harmlessly() {
    assert_eq!(Name("layers.0.größe").to_string(), "layers.0.größe");
    assert_eq!(Name("a\nb\u{1b}[31m\u{202e}").to_string(), "a\\u{a}b\\u{1b}[31m\\u{202e}");
    assert_eq!(Name("x".repeat(160)).to_string(), "x".repeat(160));
    assert_eq!(Name("x".repeat(161)).to_string(), "x".repeat(160) + "…");
}

#[test]
fn the_end_of_a_long_path_is_shown() {
    let path = format!("{}/config.json", "folder/".repeat(100));
    let error = Error::ConfigMissing { file: path.clone(), key: owned("mamba2") };
    assert_eq!(error.to_string(), format!("{path}: `mamba2` is missing"));
}
