//! See `fixture_fuzz::lldpdu`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::lldpdu(data));
