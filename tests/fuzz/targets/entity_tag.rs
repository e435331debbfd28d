//! Fuzzes `checks::entity_tag`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::entity_tag::check(bytes));
