//! libFuzzer on the target `proxy_header`, which `hookgate_fuzz_cases` defines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hookgate_fuzz_cases::proxy_header::judge(input));
