//! Any bytes as a weight file; what must hold is in `tests/src/fuzz/weight_header.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    taipan_tests::fuzz::weight_header::check(input);
});
