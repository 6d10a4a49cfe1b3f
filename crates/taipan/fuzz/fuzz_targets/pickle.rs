//! Any bytes as a PyTorch checkpoint; what must hold is in `tests/src/fuzz/pickle.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    taipan_tests::fuzz::pickle::check(input);
});
