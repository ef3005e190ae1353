#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::krpc_vs_mainline::run(data));
