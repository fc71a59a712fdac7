//! The fuzzer's way into `judges/proof.rs`.

#![no_main]

#[path = "../judges/proof.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
