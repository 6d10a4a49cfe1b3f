//! Any bytes as a saved state; what must hold is in `tests/src/fuzz/saved_state.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    taipan_tests::fuzz::saved_state::check(input);
});
