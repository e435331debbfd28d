//! Fuzzes `checks::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::reference::check(bytes));
