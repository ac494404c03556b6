//! libFuzzer on the target `key_set`, which `hookgate_fuzz_cases` defines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz_cases::key_set::judge(input));
