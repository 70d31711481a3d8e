//! See `fixture_fuzz::qcc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::qcc(data));
