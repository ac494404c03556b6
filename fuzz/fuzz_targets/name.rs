//! libFuzzer on the target `name`, which `hookgate_fuzz_cases` defines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz_cases::name::judge(input));
