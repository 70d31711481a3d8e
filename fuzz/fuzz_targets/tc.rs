//! See `fixture_fuzz::tc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::tc(data));
