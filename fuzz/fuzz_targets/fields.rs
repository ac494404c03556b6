//! libFuzzer on the target `fields`, which `hookgate_fuzz_cases` defines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz_cases::fields::judge(input));
