//! libFuzzer on the target `revocation_list`, which `hookgate_fuzz_cases` defines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz_cases::revocation_list::judge(input));
