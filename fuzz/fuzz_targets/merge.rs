//! See `fixture_fuzz::merge_two`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::merge_two(data));
