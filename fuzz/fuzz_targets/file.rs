//! libFuzzer on the target `file`, which `hookgate_fuzz_cases` defines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz_cases::file::judge(input));
