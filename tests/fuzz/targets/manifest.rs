//! Fuzzes `checks::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::manifest::check(bytes));
