//! See `fixture_fuzz::pmc_output`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::pmc_output(data));
