//! Fuzzes `checks::digest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::digest::check(bytes));
