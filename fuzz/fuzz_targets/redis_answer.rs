#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strait_fuzz::redis_answer(bytes));
