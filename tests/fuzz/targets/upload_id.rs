//! Fuzzes `checks::upload_id`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::upload_id::check(bytes));
