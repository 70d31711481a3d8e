//! See `fixture_fuzz::gptp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::gptp(data));
