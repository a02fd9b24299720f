#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sami_fuzz::run("queries_auto", bytes));
