//! The fuzzer's way into `judges/config.rs`.

#![no_main]

#[path = "../judges/config.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
