//! See `fixture_fuzz::ptp_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::ptp_message(data));
