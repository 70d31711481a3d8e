//! See `fixture_fuzz::ptp4l_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::ptp4l_log(data));
