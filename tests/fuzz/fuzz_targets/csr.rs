//! The fuzzer's way into `judges/csr.rs`.

#![no_main]

#[path = "../judges/csr.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
