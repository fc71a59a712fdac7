//! The fuzzer's way into `judges/eab.rs`.

#![no_main]

#[path = "../judges/eab.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
