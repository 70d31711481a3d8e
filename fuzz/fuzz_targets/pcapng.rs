//! See `fixture_fuzz::pcapng`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fixture_fuzz::pcapng(data));
