//! Any bytes as a GGUF file; what must hold is in `tests/src/fuzz/gguf_header.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    taipan_tests::fuzz::gguf_header::check(input);
});
