#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sidenote_properties::query(bytes));
