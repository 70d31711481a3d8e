//! See `fixture_fuzz::lldp_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::lldp_json(data));
